// The threads of one run: how they stop together, and what they leave behind.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <new>
#include <thread>

#include "flow.hpp"
#include "job.hpp"
#include "threads.hpp"

namespace hdnn {

// What the threads of one run share: whether to stop, and why. The thread that called asks `interrupt` now and then,
// also while it waits for the others. An exception must not leave a parallel region, so it is carried out.
class Team {
  using Clock = std::chrono::steady_clock;

 public:
  Team(Interrupt interrupt, int64_t tasks) : interrupt_(interrupt), queue_(tasks) {}

  bool stopped() {
    if (why_.load(std::memory_order_relaxed) != kGoOn) return true;
    if (interrupt_ == nullptr || caller_ != std::this_thread::get_id()) return false;
    const Clock::time_point now = Clock::now();
    if (now - asked_ < std::chrono::milliseconds(100)) return false;
    asked_ = now;
    if (interrupt_(nullptr)) stop(kInterrupted);
    return why_ != kGoOn;
  }

  // What one thread does: tasks while there are any.
  template <class F> void work(F&& run) {
    queue_.each([&](int64_t task) {
      try {
        if (!stopped()) run(task);
      } catch (const std::bad_alloc&) {
        stop(kNoMemory);
      }
    });
    wait();
  }

  void give_to(Job& job) {
    job.stopped = [](void* team) { return static_cast<Team*>(team)->stopped(); };
    job.team = this;
  }

  void raise() const {
    if (why_ == kNoMemory) throw std::bad_alloc();
    if (why_ == kInterrupted) throw Interrupted();
  }

 private:
  enum Why { kGoOn, kInterrupted, kNoMemory };

  // The caller has no task any more, and others still have: stay awake for Ctrl-C. A short wait must not be slept over.
  void wait() {
    if (interrupt_ == nullptr || caller_ != std::this_thread::get_id()) return;
    const Clock::time_point start = Clock::now();
    while (queue_.unfinished() && !stopped())
      if (Clock::now() - start > std::chrono::milliseconds(10)) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }

  void stop(Why why) {
    int none = kGoOn;
    why_.compare_exchange_strong(none, why);
  }

  const Interrupt interrupt_;
  const std::thread::id caller_ = std::this_thread::get_id();
  Queue queue_;
  std::atomic<int> why_{kGoOn};
  Clock::time_point asked_ = Clock::now();
};

}  // namespace hdnn
