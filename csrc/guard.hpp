// Whether to stop a training: what its threads share.
#pragma once
#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>

#include "flow.hpp"
#include "threads.hpp"

namespace hdnn {

// Asks from the calling thread whether to stop, and lets the others know.
class Guard {
 public:
  explicit Guard(Interrupt interrupt) : interrupt_(interrupt), asked_(Clock::now()), looked_(asked_) {}

  bool stops() {
    if (interrupt_ != nullptr && caller_ == std::this_thread::get_id() && --skip_ <= 0) look();
    return stopped();
  }
  bool stopped() const { return stopped_.load(std::memory_order_relaxed); }

  // The caller has nothing left to do while others have: stay awake.
  void wait(const Queue& queue) {
    while (queue.unfinished() && interrupt_ != nullptr && caller_ == std::this_thread::get_id() && !stopped_) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      look();
    }
  }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr auto kPatience = std::chrono::milliseconds(50);  // between two questions

  // The shorter the time between two calls, the fewer of them look at the clock.
  void look() {
    const Clock::time_point now = Clock::now();
    stride_ = now - looked_ > kPatience / 64 ? 1 : (stride_ < 64 ? 2 * stride_ : 64);
    skip_ = stride_;
    looked_ = now;
    if (now - asked_ <= kPatience) return;
    if (interrupt_(nullptr)) stopped_ = true;
    asked_ = Clock::now();
  }

  const Interrupt interrupt_;
  const std::thread::id caller_ = std::this_thread::get_id();
  Clock::time_point asked_, looked_;
  int skip_ = 1, stride_ = 1;  // of the caller alone
  std::atomic<bool> stopped_{false};
};

}  // namespace hdnn
