// The top K of softmax(logits), ties to the lower index, a NaN last; weights renormalised to sum 1.
// docs/architecture.md 4.
#pragma once

#include "devices/cuda/kernel_args.h"
#include "devices/cuda/math.cuh"
#include "devices/cuda/warp.cuh"

namespace qwen35::cuda {

struct Logit {
  float value;
  unsigned index;
};

// An order of all logits: numbers before NaN, larger ones first, ties by index. A lane without one has the index ~0u.
DEVICE bool goes_before(const Logit& a, const Logit& b) {
  if (a.index == ~0u || b.index == ~0u) return b.index == ~0u && a.index != ~0u;
  const bool a_is_number = a.value == a.value, b_is_number = b.value == b.value;
  if (a_is_number != b_is_number) return a_is_number;
  if (a_is_number && a.value != b.value) return a.value > b.value;
  return a.index < b.index;
}

// The first in that order of those behind `last`, which every lane gets.
DEVICE Logit next_after(const float* logits, unsigned count, const Logit& last, bool is_first) {
  Logit best{0.0f, ~0u};
  for (unsigned e = lane_id(); e < count; e += kWarp) {
    const Logit one{logits[e], e};
    if ((is_first || goes_before(last, one)) && goes_before(one, best)) best = one;
  }
  for (int step = kWarp / 2; step > 0; step /= 2) {
    const Logit other{__shfl_xor_sync(kAllLanes, best.value, step), __shfl_xor_sync(kAllLanes, best.index, step)};
    if (goes_before(other, best)) best = other;
  }
  return best;
}

// One row, by one warp.
DEVICE void choose_experts(const RouteArgs& args, unsigned long long row) {
  const float* logits = args.logits.data + row * args.logits.stride;
  int* experts = args.experts + row * args.top_k;
  float* weights = args.weights + row * args.top_k;
  Logit last{0.0f, 0};
  float largest = 0.0f, sum = 0.0f;
  for (unsigned i = 0; i < args.top_k; ++i) {
    last = next_after(logits, args.logits.cols, last, i == 0);
    if (i == 0) largest = last.value;
    const float weight = exp_of(last.value - largest);
    sum += weight;
    if (lane_id() == 0) {
      experts[i] = static_cast<int>(last.index);
      weights[i] = weight;
    }
  }
  __syncwarp();
  for (unsigned i = lane_id(); i < args.top_k; i += kWarp) weights[i] /= sum;
}

// Grid: rows.
KERNEL(route, kWarp)(RouteArgs args) {
  await_predecessor();
  choose_experts(args, blockIdx.x);
}

}  // namespace qwen35::cuda
