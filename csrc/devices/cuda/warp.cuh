// Sums and maxima over a warp, a block of threads, or a part of a warp: always in one order.
#pragma once

#include "devices/cuda/device.cuh"
#include "devices/cuda/kernel_args.h"

namespace qwen35::cuda {

inline constexpr unsigned kAllLanes = 0xffffffffu;

DEVICE unsigned lane_id() { return threadIdx.x % kWarp; }
DEVICE unsigned warp_id() { return threadIdx.x / kWarp; }

// The first thing that a kernel does, but for reading ahead what no kernel writes: under programmatic dependent launch
// it may begin before the one before it has ended (CUDA programming guide, "Programmatic Dependent Launch").
DEVICE void await_predecessor() {
  grid_dependency_wait();
  grid_dependency_launch();
}

// Over neighbouring lanes, kLanes of them, a power of two: every lane gets the result.
template <unsigned kLanes = kWarp, class T>
DEVICE T lane_sum(T v) {
  for (unsigned step = kLanes / 2; step > 0; step /= 2) v += __shfl_xor_sync(kAllLanes, v, static_cast<int>(step));
  return v;
}

// NaN does not count.
template <unsigned kLanes = kWarp>
DEVICE float lane_max(float v) {
  for (unsigned step = kLanes / 2; step > 0; step /= 2) {
    const float other = __shfl_xor_sync(kAllLanes, v, static_cast<int>(step));
    v = other > v ? other : v;
  }
  return v;
}

// Over all threads of a block of kWarps warps. `parts` is shared memory; the threads meet before and after.
template <unsigned kWarps, class T>
DEVICE T block_sum(T v, T (&parts)[kWarps]) {
  v = lane_sum(v);
  __syncthreads();
  if (lane_id() == 0) parts[warp_id()] = v;
  __syncthreads();
  T sum = parts[0];
  for (unsigned w = 1; w < kWarps; ++w) sum += parts[w];
  return sum;
}

// Whether this block of threads is the last of `count` to come here: the one way from block to block within a kernel.
// What any thread of the others wrote before is then seen by all of this one's: a barrier orders it before the arrival
// of that block's first thread, that one before the last arrival, and a barrier that one before all threads here.
// `arrived` is 0 before and after; `is_last` is shared memory.
DEVICE bool arrives_last(unsigned* arrived, unsigned count, unsigned& is_last) {
  __syncthreads();
  if (threadIdx.x == 0) is_last = arrive(arrived, count) == count - 1 ? 1 : 0;
  __syncthreads();
  return is_last != 0;
}

}  // namespace qwen35::cuda
