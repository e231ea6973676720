// What the host needs of a row of logits to find the most likely tokens, so that the row itself stays on the card.
#pragma once

#include "devices/cuda/kernel_args.h"
#include "devices/cuda/math.cuh"
#include "devices/cuda/warp.cuh"

namespace qwen35::cuda {

// The largest of every kMaximaLogits neighbours; NaN where one of them is NaN or +inf. A warp takes one such block.
KERNEL(block_maxima, kRowThreads)(BlockMaximaArgs args) {
  await_predecessor();
  const unsigned block = blockIdx.x * (kRowThreads / kWarp) + warp_id(), first = block * kMaximaLogits;
  if (first >= args.cols) return;
  float largest = bits_float(0xff800000u);  // -inf
  bool is_sound = true;
  for (unsigned i = first + lane_id(); i < first + kMaximaLogits && i < args.cols; i += kWarp) {
    const float logit = args.logits[i];
    is_sound = is_sound && logit <= 0x1.fffffep127f;
    largest = logit > largest ? logit : largest;
  }
  largest = lane_max(largest);
  const bool are_sound = __all_sync(kAllLanes, is_sound) != 0;
  if (lane_id() == 0) args.largest[block] = are_sound ? largest : bits_float(0x7fc00000u);
}

// Lists the tokens whose logit is not below `least`, in any order, and reads the logits of those named by `ids`.
KERNEL(likely_tokens, kRowThreads)(LikelyTokensArgs args) {
  await_predecessor();
  const unsigned i = blockIdx.x * kRowThreads + threadIdx.x;
  if (i < args.id_count) args.named[i] = args.logits[args.ids[i]];
  if (i >= args.cols || !(args.logits[i] >= args.least)) return;
  const unsigned at = atomicAdd(args.count, 1u);
  if (at < kMostLikelyTokens) args.list[at] = {args.logits[i], i};
}

}  // namespace qwen35::cuda
