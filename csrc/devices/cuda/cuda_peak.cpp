// What the card can do at most, timed by events of its own stream.
#include <algorithm>
#include <functional>
#include <numeric>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/round_up.h"
#include "devices/cuda/cuda_backend.h"

namespace qwen35::cuda {
namespace {

constexpr unsigned kBlocksPerMultiprocessor = 4;
constexpr unsigned kWarpsOfBlock = kRowThreads / kWarp;
constexpr double kRunSeconds = 0.02;       // long enough that starting does not count
constexpr unsigned kMostRounds = 1 << 25;  // of 32 products: an element of multiply_int8's sums stays below 2^31

// The time between two places of a stream.
class Stopwatch {
 public:
  explicit Stopwatch(CUstream stream) : stream_(stream) {
    for (CUevent& event : events_) QWEN35_CUDA(cuEventCreate, &event, kEventDefault);
  }
  ~Stopwatch() {
    for (const CUevent event : events_) opened_driver().functions.cuEventDestroy(event);
  }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

  void start() { QWEN35_CUDA(cuEventRecord, events_[0], stream_); }
  double stop() {  // seconds; waits
    float milliseconds = 0.0f;
    QWEN35_CUDA(cuEventRecord, events_[1], stream_);
    QWEN35_CUDA(cuEventSynchronize, events_[1]);
    QWEN35_CUDA(cuEventElapsedTime, &milliseconds, events_[0], events_[1]);
    return 1e-3 * static_cast<double>(milliseconds);
  }

 private:
  CUstream stream_;
  CUevent events_[2] = {};
};

}  // namespace

// `run` puts so many rounds on the stream, in which the warps of `blocks` add up what they did.
MeasuredRate CudaBackend::fastest(unsigned repetitions, std::size_t blocks, std::uint64_t expected_of_round,
                                  const std::function<void(unsigned rounds, std::uint64_t* counts)>& run) {
  synchronize();
  std::vector<std::uint64_t> done(blocks * kWarpsOfBlock);
  const std::size_t bytes = done.size() * sizeof done[0];
  const Piece counts = memory_->take(bytes);
  Stopwatch watch(context_->stream());
  const auto seconds = [&](unsigned rounds) {
    context_->fill(address(counts.get()), 0, bytes);
    watch.start();
    run(rounds, reinterpret_cast<std::uint64_t*>(counts.get()));
    return watch.stop();
  };
  unsigned rounds = 1;
  while (seconds(rounds) < kRunSeconds && rounds < kMostRounds) rounds *= 2;
  double best = seconds(rounds);
  for (unsigned i = 1; i < repetitions; ++i) best = std::min(best, seconds(rounds));
  context_->download(done.data(), address(counts.get()), bytes);
  const std::uint64_t count = std::accumulate(done.begin(), done.end(), std::uint64_t{0});
  if (count != expected_of_round * rounds) {
    throw DeviceError(context_->card() + " did " + std::to_string(count) + " of " +
                      std::to_string(expected_of_round * rounds) +
                      " steps of a measurement; do not trust this card: `qwen35 doctor` checks it");
  }
  return {count, best};
}

MeasuredRate CudaBackend::read_memory(std::size_t bytes, unsigned repetitions) {
  const std::size_t blocks = std::size_t{kBlocksPerMultiprocessor} * context_->multiprocessors();
  const std::size_t round_bytes = blocks * kRowThreads * kPeakLoads * 16;
  const auto loads = static_cast<unsigned>(ceil_div(bytes, round_bytes));
  bytes = loads * round_bytes;
  const Piece memory = memory_->take(bytes);
  context_->fill(address(memory.get()), 1, bytes);
  return fastest(repetitions, blocks, bytes, [&](unsigned rounds, std::uint64_t* counts) {
    const auto* from = reinterpret_cast<const Byte*>(memory.get());
    auto* to = reinterpret_cast<unsigned long long*>(counts);
    for (unsigned i = 0; i < rounds; ++i) context_->launch<Kernel::read_memory>({blocks}, {from, to, loads, 0});
  });
}

MeasuredRate CudaBackend::multiply_int8(unsigned repetitions) {
  constexpr std::uint64_t kProductsOfBlock = std::uint64_t{16} * 8 * 32 * kPeakProducts * kWarpsOfBlock;
  const std::size_t blocks = std::size_t{kBlocksPerMultiprocessor} * context_->multiprocessors();
  const MeasuredRate found =
      fastest(repetitions, blocks, kProductsOfBlock * blocks, [&](unsigned rounds, std::uint64_t* counts) {
        auto* to = reinterpret_cast<unsigned long long*>(counts);
        context_->launch<Kernel::multiply_int8>({blocks}, {to, rounds, kByteOnes});
      });
  return {2 * found.count, found.seconds};  // the additions too
}

}  // namespace qwen35::cuda
