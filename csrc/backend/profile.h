// Calls and seconds per operation of a backend. The model itself knows nothing of clocks.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>

namespace qwen35 {

enum class Operation : std::uint8_t {
  kEmbed,
  kRmsNorm,
  kMatmul,
  kMatmulAdd,
  kSwiglu,
  kHead,  // matmul with the output matrix
  kGatedDeltaNet,
  kNormRopeAppend,
  kAttend,
  kRoute,
  kMoeGather,
  kMoeCombine,
  kTakeRows,
  kPreviousRows,
  kKeptRows,
  kTopK,
  kWaiting  // time inside any operation in which the caller waited for other threads
};

struct OperationTime {
  const char* name;
  std::uint64_t calls = 0;
  std::chrono::nanoseconds time{};
};

// Memory calls are neither timed nor counted: they, and the gaps between operations, are what a pass's own time has
// left over.
class Profile {
 public:
  Profile() noexcept;

  // One entry per Operation, in its order.
  std::span<const OperationTime> times() const noexcept { return times_; }
  void reset() noexcept;
  // `waiting` is a part of `time`, and counted apart.
  void add(Operation operation, std::chrono::nanoseconds time, std::chrono::nanoseconds waiting) noexcept;

 private:
  std::array<OperationTime, static_cast<std::size_t>(Operation::kWaiting) + 1> times_;
};

}  // namespace qwen35
