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

// How many threads this process may keep busy: the affinity mask and the cgroup quota both count.
unsigned usable_threads() noexcept;

class Workers {
 public:
  // 0 means usable_threads(). The caller of each() is one of them.
  explicit Workers(unsigned threads);
  ~Workers();
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  unsigned count() const noexcept { return count_; }

  // How long callers of each() have waited for the others, all in all, after their own part was done.
  std::chrono::nanoseconds waited() const noexcept {
    return std::chrono::nanoseconds(waited_.load(std::memory_order_relaxed));
  }

  // fn(begin, end, worker) over contiguous parts of [0, n), at least `grain` items each but for the last; worker <
  // count(). Returns when all is done; the first exception comes back to the caller. Calls from several threads take
  // turns; fn itself must not call each() on the same team.
  template <class F>
  void each(std::size_t n, F&& fn, std::size_t grain = 1) {
    if (n == 0) return;
    const std::size_t most = (n + grain - 1) / grain;
    const unsigned parts = most < count_ ? static_cast<unsigned>(most) : count_;
    auto part = [&](unsigned worker) { fn(cut(n, worker, parts), cut(n, worker + 1, parts), worker); };
    run(parts, &part, [](void* f, unsigned worker) { (*static_cast<decltype(part)*>(f))(worker); });
  }

  // fn(item, worker) for every item of [0, n), handed out one at a time in rising order: for items of unequal cost.
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
    run(parts, &part, [](void* f, unsigned worker) { (*static_cast<decltype(part)*>(f))(worker); });
  }

  // Where part `i` of `parts` begins in [0, n); parts differ by at most one item. Fixed, so that whoever packs a
  // weight can touch first the memory that he will stream.
  static std::size_t cut(std::size_t n, unsigned i, unsigned parts) noexcept {
    const std::size_t whole = n / parts, rest = n % parts;
    return whole * i + (i < rest ? i : rest);
  }

 private:
  using Part = void (*)(void*, unsigned);

  // One raised count per worker, each in its own cache line, so that a short loop wakes only those who take part.
  struct alignas(64) Bell {
    std::atomic<std::uint32_t> rung{0};
  };

  void run(unsigned parts, void* fn, Part call);
  void wait_for_others() noexcept;
  void call_part(unsigned worker) noexcept;
  void work(unsigned worker) noexcept;

  unsigned count_;
  std::mutex turn_;

  // The job: written before the bells are rung, read after.
  void* fn_ = nullptr;
  Part call_ = nullptr;
  bool stopped_ = false;
  std::mutex error_mutex_;
  std::exception_ptr error_;

  std::atomic<std::chrono::nanoseconds::rep> waited_{0};

  alignas(64) std::atomic<std::uint32_t> busy_{0};
  std::unique_ptr<Bell[]> bells_;
  std::vector<std::thread> threads_;
};

}  // namespace qwen35
