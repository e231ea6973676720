#include "devices/cpu/peak.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <limits>
#include <memory>

#include "devices/cpu/arena.h"

namespace qwen35::cpu {
namespace {

using Clock = std::chrono::steady_clock;

// Software prefetch speeds reading up on some processors and slows it down on others: both are tried.
constexpr std::size_t kAhead[] = {0, 1024};

// Long enough that starting and joining the team does not count, short enough to fall between two interruptions.
constexpr double kRunSeconds = 0.05;

template <class Run>
double seconds(Run&& run) {
  const auto begin = Clock::now();
  run();
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

template <class Run>
double shortest(unsigned repetitions, Run&& run) {
  double best = seconds(run);
  for (unsigned i = 1; i < repetitions; ++i) best = std::min(best, seconds(run));
  return best;
}

// Results are stored here, so that the compiler cannot remove their computation.
std::atomic<std::uint64_t> sink;

}  // namespace

MeasuredRate read_memory(const Table& table, Workers& workers, std::size_t bytes, unsigned repetitions) {
  const std::size_t blocks = std::max<std::size_t>(bytes / kReadBlock, workers.count());
  // The memory that weights have; each part is touched first by the thread that reads it.
  const std::shared_ptr<std::byte> memory = allocate_bytes(blocks * kReadBlock);
  const auto first_touch = [&](std::size_t begin, std::size_t end, unsigned worker) {
    std::fill(memory.get() + begin * kReadBlock, memory.get() + end * kReadBlock, static_cast<std::byte>(worker + 1));
  };
  workers.each(blocks, first_touch);
  double best = std::numeric_limits<double>::infinity();
  for (const std::size_t ahead : kAhead) {
    const auto read = [&](std::size_t begin, std::size_t end, unsigned) {
      const std::byte* first = memory.get() + begin * kReadBlock;
      sink.fetch_add(table.read_sum(first, (end - begin) * kReadBlock, ahead), std::memory_order_relaxed);
    };
    best = std::min(best, shortest(repetitions, [&] { workers.each(blocks, read); }));
  }
  return {blocks * kReadBlock, best};
}

MeasuredRate multiply_int8(const Table& table, Workers& workers, unsigned repetitions) {
  std::atomic<std::uint64_t> operations{0};
  const auto run = [&](std::size_t rounds) {
    operations = 0;
    workers.each_item(workers.count(), [&](std::size_t, unsigned) {
      std::uint32_t sum = 0;
      operations.fetch_add(table.multiply_int8(rounds, &sum), std::memory_order_relaxed);
      sink.fetch_add(sum, std::memory_order_relaxed);
    });
  };
  std::size_t rounds = 1 << 12;
  while (seconds([&] { run(rounds); }) < kRunSeconds) rounds *= 2;
  const double best = shortest(repetitions, [&] { run(rounds); });
  return {operations.load(), best};
}

}  // namespace qwen35::cpu
