// A head in the registers of a warp, and its Walsh-Hadamard transform.
#pragma once

#include "devices/cuda/warp.cuh"

namespace qwen35::cuda {

inline constexpr unsigned kMostHeadWidth = 256;
inline constexpr unsigned kHeadParts = kMostHeadWidth / kWarp;

// Element lane + 32 i of a head is x[i]; those from the width on are zeros.
using Head = float[kHeadParts];

// x <- x H / sqrt(n) in groups of n elements, n the largest power of two that divides the width, a multiple of 32.
DEVICE void hadamard(Head& x, unsigned width) {
  const unsigned order = width & (~width + 1), lane = lane_id();
  for (unsigned step = 1; step < kWarp; step *= 2) {
    for (unsigned i = 0; i < kHeadParts; ++i) {
      if (i * kWarp >= width) break;
      const float other = __shfl_xor_sync(kAllLanes, x[i], static_cast<int>(step));
      x[i] = (lane & step) != 0 ? other - x[i] : x[i] + other;
    }
  }
  UNROLL(kHeadParts)
  for (unsigned step = 1; step < kHeadParts; step *= 2) {
    if (step * kWarp >= order) break;
    UNROLL(kHeadParts)
    for (unsigned i = 0; i < kHeadParts; ++i) {
      if ((i & step) != 0) continue;
      const float a = x[i], b = x[i + step];
      x[i] = a + b;
      x[i + step] = a - b;
    }
  }
  const float scale = static_cast<float>(1.0 / sqrt(static_cast<double>(order)));
  for (unsigned i = 0; i < kHeadParts; ++i) x[i] *= scale;
}

}  // namespace qwen35::cuda
