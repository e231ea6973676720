// What a device can do at most, as measured on it: the yardstick of `qwen35 bench`.
#pragma once

#include <cstdint>

namespace qwen35 {

struct MeasuredRate {
  std::uint64_t count;  // bytes or operations of a run, as the device counted them
  double seconds;       // that the fastest run took

  double per_second() const noexcept { return static_cast<double>(count) / seconds; }
};

}  // namespace qwen35
