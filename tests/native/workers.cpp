// A worker that is held up leaves its share of a loop to the others.
#include "base/workers.h"

#include <atomic>
#include <chrono>
#include <cstdio>
#include <numeric>
#include <thread>
#include <vector>

#include "twins.h"

namespace qwen35::twins {
namespace {

// How many items each worker of a team does of a loop in which the last worker's first piece does not end before all
// the others' are done, or before a deadline that is missed only where they wait for it.
std::vector<std::size_t> items_beside_a_slow_worker(unsigned threads, std::size_t items) {
  Workers workers(threads);
  const unsigned slow = workers.count() - 1;
  std::vector<std::size_t> done(workers.count());
  std::atomic<std::size_t> total{0};
  std::atomic<bool> has_begun{false};
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(5);
  const auto until = [&](auto&& holds) {
    while (!holds() && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
  };
  workers.each(items, [&](std::size_t begin, std::size_t end, unsigned worker) {
    if (worker == slow && done[worker] == 0) {
      has_begun = true;
      until([&] { return total == items - (end - begin); });
    } else if (worker != slow) {
      until([&] { return has_begun.load(); });
    }
    done[worker] += end - begin;
    total += end - begin;
  });
  return done;
}

}  // namespace

bool workers_share() {
  bool is_right = true;
  for (const unsigned threads : {2U, 3U, 8U}) {
    for (const std::size_t items : {std::size_t{64}, std::size_t{1000}}) {
      const auto done = items_beside_a_slow_worker(threads, items);
      const std::size_t total = std::accumulate(done.begin(), done.end(), std::size_t{0});
      if (total == items && done.back() > 0 && done.back() <= items / done.size() / 8) continue;
      std::printf("workers: %zu of %zu items done by %u threads, %zu of them by the slow one\n", total, items, threads,
                  done.back());
      is_right = false;
    }
  }
  return is_right;
}

}  // namespace qwen35::twins
