// out = x / sqrt(mean(x^2) + eps) * weight, and its codes for the products that follow.
#pragma once

#include "devices/cuda/quantise.cuh"

namespace qwen35::cuda {

// 1 / sqrt(mean + eps), rounded once.
DEVICE float rms_scale(float squares, unsigned count, float eps) {
  const double mean = static_cast<double>(squares) / static_cast<double>(count);
  return static_cast<float>(1.0 / sqrt(mean + static_cast<double>(eps)));
}

// One row, by a block of kNormThreads; codes from block `first_block` on.
DEVICE void norm_row(float* out, const float* x, const float* weight, unsigned cols, float eps, const QuantisedRows& to,
                     unsigned long long first_block) {
  SHARED(float[kNormThreads / kWarp], parts);
  float squares = 0.0f;
  for (unsigned i = threadIdx.x; i < cols; i += kNormThreads) squares = fmaf(x[i], x[i], squares);
  const float scale = rms_scale(block_sum(squares, parts), cols, eps);
  for (unsigned base = warp_id() * 128; base < cols; base += kNormThreads * 4) {
    const unsigned at = base + 4 * lane_id();
    float v[4] = {};
    for (unsigned i = 0; i < 4; ++i) {
      if (at + i < cols) out[at + i] = v[i] = x[at + i] * scale * weight[at + i];
    }
    if (to.codes != nullptr) quantise_four(to, first_block + at / kBlockColumns, v, at < cols);
  }
}

// Grid: rows.
KERNEL(rms_norm, kNormThreads)(RmsNormArgs args) {
  await_predecessor();
  const unsigned row = blockIdx.x;
  norm_row(args.out.data + row * args.out.stride, args.x.data + row * args.x.stride, args.weight, args.x.cols, args.eps,
           args.quantised, row * static_cast<unsigned long long>(args.x.cols / kBlockColumns));
}

}  // namespace qwen35::cuda
