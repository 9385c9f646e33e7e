// Threads that share a run. They are those of the OpenMP runtime that PyTorch has loaded, called by an address that is
// handed over at run time and never linked: two runtimes in a process would each keep a team awake. Where there is
// none, threads are made for each run.
#pragma once
#include <atomic>
#include <cstdint>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#ifdef __linux__
#include <sched.h>
#endif

namespace hdnn {

// OpenMP's `GOMP_parallel`: calls `body(data)` on as many threads, or fewer, the caller among them; waits for all.
using Parallel = void (*)(void (*body)(void*), void* data, unsigned threads, unsigned flags);

inline std::atomic<Parallel>& openmp() {
  static std::atomic<Parallel> entry{nullptr};
  return entry;
}

// Processors that this process may use.
inline int processors() {
#ifdef __linux__
  cpu_set_t mine;
  if (sched_getaffinity(0, sizeof mine, &mine) == 0) return CPU_COUNT(&mine);  // fails beyond 1024
#endif
  return static_cast<int>(std::thread::hardware_concurrency());
}

// Runs `body(seat)` on at most so many threads, seats counted from 0. It must not throw.
template <class F> void together(int threads, F&& body) {
  struct Seats {
    F& body;
    std::atomic<int> next{0};
  } seats{body};
  const auto sit = [](void* data) {
    Seats& all = *static_cast<Seats*>(data);
    all.body(all.next++);
  };
  if (threads <= 1) return sit(&seats);
  if (const Parallel parallel = openmp()) return parallel(sit, &seats, static_cast<unsigned>(threads), 0);
  std::vector<std::thread> others;
  try {
    while (static_cast<int>(others.size()) + 1 < threads) others.emplace_back(+sit, static_cast<void*>(&seats));
  } catch (const std::exception&) {  // the system refuses more: fewer do the same
  }
  sit(&seats);
  for (std::thread& other : others) other.join();
}

// Tasks 0, 1, ... for whoever comes next.
class Queue {
 public:
  explicit Queue(int64_t tasks) : tasks_(tasks), left_(tasks) {}

  template <class F> void each(F&& run) {
    for (int64_t task; (task = next_++) < tasks_; --left_) run(task);
  }
  bool unfinished() const { return left_ > 0; }

 private:
  const int64_t tasks_;
  std::atomic<int64_t> next_{0}, left_;
};

}  // namespace hdnn
