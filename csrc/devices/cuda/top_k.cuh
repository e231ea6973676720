// What the host needs of a row of logits to find the most likely tokens, so that the row itself stays on the card.
#pragma once

#include "devices/cuda/kernel_args.h"
#include "devices/cuda/math.cuh"
#include "devices/cuda/sampling_args.h"
#include "devices/cuda/warp.cuh"

namespace qwen35::cuda {

inline constexpr unsigned kMinusInfinity = 0xff800000u;

DEVICE bool allows(const TokenMask& mask, unsigned token) {
  return mask.words == nullptr || (token / 32 < mask.count && (mask.words[token / 32] >> token % 32 & 1u) != 0);
}

// The largest of every kMaximaLogits neighbours that are allowed; NaN where one of them all is NaN or +inf. With `sums`
// also the sum of exponentials of them all. A warp takes one such block.
KERNEL(block_maxima, kRowThreads)(BlockMaximaArgs args) {
  await_predecessor();
  const unsigned block = blockIdx.x * (kRowThreads / kWarp) + warp_id(), first = block * kMaximaLogits;
  if (first >= args.cols) return;
  const unsigned end = first + kMaximaLogits < args.cols ? first + kMaximaLogits : args.cols;
  float largest = bits_float(kMinusInfinity), largest_allowed = largest;
  bool is_sound = true;
  for (unsigned i = first + lane_id(); i < end; i += kWarp) {
    const float logit = args.logits[i];
    is_sound = is_sound && logit <= 0x1.fffffep127f;
    largest = logit > largest ? logit : largest;
    if (allows(args.allowed, i)) largest_allowed = logit > largest_allowed ? logit : largest_allowed;
  }
  largest_allowed = lane_max(largest_allowed);
  const bool are_sound = __all_sync(kAllLanes, is_sound) != 0;
  if (lane_id() == 0) args.largest[block] = are_sound ? largest_allowed : bits_float(0x7fc00000u);
  if (args.sums == nullptr) return;
  largest = lane_max(largest);
  float sum = 0.0f;
  if (largest > bits_float(kMinusInfinity)) {
    for (unsigned i = first + lane_id(); i < end; i += kWarp) sum += exp_of(args.logits[i] - largest);
  }
  sum = lane_sum(sum);
  if (lane_id() == 0) args.sums[block] = {largest, sum};
}

// The blocks' sums as one, in fp64: a thread adds every kRowThreads-th, then lanes and warps are added in their order.
KERNEL(sum_blocks, kRowThreads)(SumBlocksArgs args) {
  SHARED(float[kRowThreads / kWarp], maxima);
  SHARED(double[kRowThreads / kWarp], parts);
  await_predecessor();
  float largest = bits_float(kMinusInfinity);
  for (unsigned long long i = threadIdx.x; i < args.count; i += kRowThreads) {
    largest = args.sums[i].largest > largest ? args.sums[i].largest : largest;
  }
  largest = lane_max(largest);
  if (lane_id() == 0) maxima[warp_id()] = largest;
  __syncthreads();
  for (const float other : maxima) largest = other > largest ? other : largest;
  double sum = 0.0;
  for (unsigned long long i = threadIdx.x; i < args.count; i += kRowThreads) {
    const BlockSum block = args.sums[i];
    if (block.largest > bits_float(kMinusInfinity)) {
      sum += static_cast<double>(block.sum * exp_of(block.largest - largest));
    }
  }
  sum = block_sum(sum, parts);
  if (threadIdx.x == 0) *args.out = {sum, largest, 0};
}

// Lists the allowed tokens whose logit is not below `least`, in any order, and reads the logits of those named by
// `ids`.
KERNEL(likely_tokens, kRowThreads)(LikelyTokensArgs args) {
  await_predecessor();
  const unsigned i = blockIdx.x * kRowThreads + threadIdx.x;
  if (i < args.id_count) args.named[i] = args.logits[args.ids[i]];
  if (i >= args.cols) return;
  const float logit = args.logits[i];
  if (!(logit >= args.least && logit > bits_float(kMinusInfinity)) || !allows(args.allowed, i)) return;
  const unsigned at = atomicAdd(args.count, 1u);
  if (at < kMostLikelyTokens) args.list[at] = {logit, i};
}

}  // namespace qwen35::cuda
