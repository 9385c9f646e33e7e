// What csrc asks of <thread>, where there is one thread and none can be made.
#pragma once
#include <thread>

namespace std {

struct thread {
  struct id {
    bool operator==(id) const { return true; }
    bool operator!=(id) const { return false; }
  };
  thread(void (*body)(void*), void* data) { body(data); }
  void join() {}
  static unsigned hardware_concurrency() { return 1; }
};

namespace this_thread {
inline thread::id get_id() { return {}; }
template <class Duration> void sleep_for(const Duration&) {}
}  // namespace this_thread

}  // namespace std
