// The only threads of the core: a persistent team that runs one loop at a time.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

namespace qwen35 {

class Workers {
 public:
  // 0 means usable_threads(). The caller of each() is one of them.
  explicit Workers(unsigned threads);
  ~Workers();
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  unsigned count() const noexcept { return count_; }

  // Total time that callers of each() waited for worker threads after their own part was done.
  std::chrono::nanoseconds waited() const noexcept {
    return std::chrono::nanoseconds(waited_.load(std::memory_order_relaxed));
  }

  // Calls fn(begin, end, worker) for contiguous pieces that cover [0, n); worker < count(). At most one worker per
  // `grain` items takes part. Each starts on an equal share, piece by piece, and then steals pieces of the others, so
  // that a slow core delays the loop by one piece at most. Rethrows the first exception. One call at a time: neither
  // another thread nor fn may call each() on the same team.
  template <class F>
  void each(std::size_t n, F&& fn, std::size_t grain = 1) {
    if (n == 0) return;
    const std::size_t most = (n + grain - 1) / grain;
    const unsigned parts = most < count_ ? static_cast<unsigned>(most) : count_;
    auto part = [&](unsigned worker) {
      for (unsigned i = 0; i < parts; ++i) {
        Share& share = shares_[(worker + i) % parts];
        for (std::size_t begin; (begin = share.take()) < share.end;) fn(begin, share.end_of(begin), worker);
      }
    };
    run(parts, {n, grain}, &part, [](void* f, unsigned worker) { (*static_cast<decltype(part)*>(f))(worker); });
  }

  // Calls fn(item, worker) for every item of [0, n), in rising order, one at a time: for items of unequal cost.
  // At most `most_workers` take part.
  template <class F>
  void each_item(std::size_t n, F&& fn, std::size_t most_workers = SIZE_MAX) {
    if (n == 0) return;
    std::atomic<std::size_t> next{0};
    auto part = [&](unsigned worker) {
      for (std::size_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < n;) fn(i, worker);
    };
    const std::size_t most = n < most_workers ? n : most_workers;
    const unsigned parts = most < count_ ? static_cast<unsigned>(most) : count_;
    run(parts, {}, &part, [](void* f, unsigned worker) { (*static_cast<decltype(part)*>(f))(worker); });
  }

 private:
  using Part = void (*)(void*, unsigned);

  // One counter per worker, each in its own cache line, so that a short loop wakes only the workers that take part.
  struct alignas(64) Event {
    std::atomic<std::uint32_t> rung{0};
  };

  // The remaining part of one worker's share of [0, n).
  struct alignas(64) Share {
    std::atomic<std::size_t> next{0};
    std::size_t end = 0;
    std::size_t piece = 1;

    std::size_t take() noexcept { return next.fetch_add(piece, std::memory_order_relaxed); }
    std::size_t end_of(std::size_t begin) const noexcept { return end - begin < piece ? end : begin + piece; }
  };

  struct Items {
    std::size_t count = 0;
    std::size_t grain = 1;
  };

  void run(unsigned parts, Items items, void* fn, Part call);
  void share_out(unsigned parts, Items items) noexcept;
  void wait_for_others() noexcept;
  void call_part(unsigned worker) noexcept;
  void work(unsigned worker) noexcept;

  unsigned count_;

  // The job: written before the workers are signalled, read after.
  void* fn_ = nullptr;
  Part call_ = nullptr;
  bool stopped_ = false;
  std::mutex error_mutex_;
  std::exception_ptr error_;

  std::atomic<std::chrono::nanoseconds::rep> waited_{0};

  alignas(64) std::atomic<std::uint32_t> busy_{0};
  std::unique_ptr<Event[]> events_;
  std::unique_ptr<Share[]> shares_;
  std::vector<std::thread> threads_;
};

}  // namespace qwen35
