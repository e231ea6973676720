// out = x / sqrt(mean(x^2) + eps) * weight, and its codes for the products that follow.
#pragma once

#include "devices/cuda/quantise.cuh"

namespace qwen35::cuda {

// 1 / sqrt(mean + eps), rounded once.
DEVICE float rms_scale(float squares, unsigned count, float eps) {
  const double mean = static_cast<double>(squares) / static_cast<double>(count);
  return static_cast<float>(1.0 / sqrt(mean + static_cast<double>(eps)));
}

// Grid: rows.
KERNEL(rms_norm, kNormThreads)(RmsNormArgs args) {
  SHARED(float[kNormThreads / kWarp], parts);
  const float* x = args.x.data + blockIdx.x * args.x.stride;
  float* out = args.out.data + blockIdx.x * args.out.stride;
  const unsigned cols = args.x.cols;
  float squares = 0.0f;
  for (unsigned i = threadIdx.x; i < cols; i += kNormThreads) squares = fmaf(x[i], x[i], squares);
  const float scale = rms_scale(block_sum(squares, parts), cols, args.eps);
  const unsigned long long first_block = blockIdx.x * static_cast<unsigned long long>(cols / kBlockColumns);
  for (unsigned base = warp_id() * 128; base < cols; base += kNormThreads * 4) {
    const unsigned at = base + 4 * lane_id();
    float v[4] = {};
    for (unsigned i = 0; i < 4; ++i) {
      if (at + i < cols) out[at + i] = v[i] = x[at + i] * scale * args.weight[at + i];
    }
    if (args.quantised.codes != nullptr) quantise_four(args.quantised, first_block + at / kBlockColumns, v, at < cols);
  }
}

}  // namespace qwen35::cuda
