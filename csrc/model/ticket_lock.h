// A lock that is given in the order of asking: a long prefill that takes it chunk by chunk lets others in between,
// which std::mutex does not promise.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>

namespace qwen35 {

class TicketLock {
 public:
  void lock() {
    std::unique_lock lock(mutex_);
    const std::uint64_t ticket = next_++;
    moved_.wait(lock, [&] { return serving_ == ticket; });
  }
  void unlock() {
    const std::lock_guard lock(mutex_);
    ++serving_;
    moved_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable moved_;
  std::uint64_t next_ = 0;
  std::uint64_t serving_ = 0;
};

}  // namespace qwen35
