// What the card can do at most: bytes read from its memory, and 8-bit products of its tensor cores out of registers.
// Every number is a 1, so that what a warp sums up is how much it did.
#pragma once

#include "devices/cuda/kernel_args.h"
#include "devices/cuda/warp.cuh"

namespace qwen35::cuda {

DEVICE void add_to_count(unsigned long long* counts, unsigned long long count) {
  count = lane_sum(count);
  if (lane_id() == 0) counts[blockIdx.x * (kRowThreads / kWarp) + warp_id()] += count;
}

// As weights are read: 16 neighbouring bytes a thread, kPeakLoads of them under way.
KERNEL(read_memory, kRowThreads)(ReadMemoryArgs args) {
  await_predecessor();
  int count = 0;
  const unsigned long long step = 16ull * gridDim.x * kRowThreads;
  const Byte* from = args.from + 16ull * (blockIdx.x * kRowThreads + threadIdx.x);
  for (unsigned round = 0; round < args.rounds; ++round) {
    uint4 read[kPeakLoads];
    for (uint4& bytes : read) {
      bytes = load16_streamed(from);
      from += step;
    }
    for (const uint4& bytes : read) {
      const unsigned words[4] = {bytes.x, bytes.y, bytes.z, bytes.w};
      for (const unsigned word : words) count = __dp4a(static_cast<int>(word), static_cast<int>(kByteOnes), count);
    }
  }
  add_to_count(args.counts, static_cast<unsigned long long>(count));
}

// Products that do not wait for each other: an element of their sums is how many multiplications it took.
KERNEL(multiply_int8, kRowThreads)(MultiplyInt8Args args) {
  await_predecessor();
  const unsigned a[4] = {args.ones, args.ones, args.ones, args.ones}, b[2] = {args.ones, args.ones};
  int sums[kPeakProducts][4] = {};
  for (unsigned round = 0; round < args.rounds; ++round) {
    for (auto& sum : sums) mma_s8_k32(sum, a, b);
  }
  unsigned long long count = 0;
  for (const auto& sum : sums) {
    for (const int element : sum) count += static_cast<unsigned long long>(element);
  }
  add_to_count(args.counts, count);
}

}  // namespace qwen35::cuda
