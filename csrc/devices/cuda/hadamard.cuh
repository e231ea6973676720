// A head in the registers of a warp, and its Walsh-Hadamard transform.
#pragma once

#include "devices/cuda/math.cuh"
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
  // 2^-k/2, which takes a square root where k is odd.
  const unsigned k = static_cast<unsigned>(__popc(order - 1));
  const float scale = bits_float((127u - k / 2) << 23) * (k % 2 == 0 ? 1.0f : 0x1.6a09e6p-1f);
  for (unsigned i = 0; i < kHeadParts; ++i) x[i] *= scale;
}

}  // namespace qwen35::cuda
