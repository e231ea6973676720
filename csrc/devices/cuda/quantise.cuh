// Activations in 8 bits, 32 to a scale: the codes, scales and sums of devices/cpu/reference/matmul.cpp.
#pragma once

#include "devices/cuda/kernel_args.h"
#include "devices/cuda/math.cuh"
#include "devices/cuda/warp.cuh"

namespace qwen35::cuda {

// Code of x under the factor 127 / max: to the nearest integer, ties to even.
DEVICE int code_of(float x, float factor) { return static_cast<int>(rintf(x * factor)); }

struct BlockScale {
  float factor;  // 0: the codes are zero
  float scale;   // NaN where the block holds an infinity or NaN
};

// `largest`: the bits of the largest |x|, which order as integers do and put infinities and NaN above all.
DEVICE BlockScale block_scale(unsigned largest) {
  if (largest >= 0x7f800000u) return {0.0f, bits_float(0x7fc00000u)};
  const float most = bits_float(largest);
  if (most < 0x1p-100f) return {0.0f, 0.0f};  // 127 / most could overflow
  return {127.0f / most, most / 127.0f};
}

template <unsigned kLanes>
DEVICE unsigned lane_largest(unsigned bits) {
  for (unsigned step = kLanes / 2; step > 0; step /= 2) {
    const unsigned other = __shfl_xor_sync(kAllLanes, bits, static_cast<int>(step));
    bits = other > bits ? other : bits;
  }
  return bits;
}

DEVICE unsigned magnitude(float x) { return float_bits(x) & 0x7fffffffu; }

// A warp quantises 128 columns, four a lane; eight lanes share a block. `block` is the lane's own; all lanes call.
// Nothing is written for a lane that is not `live`.
DEVICE void quantise_four(const QuantisedRows& to, unsigned long long block, const float (&x)[4], bool live) {
  unsigned largest = 0;
  for (int i = 0; i < 4; ++i) largest = magnitude(x[i]) > largest ? magnitude(x[i]) : largest;
  const BlockScale s = block_scale(lane_largest<8>(largest));
  int codes[4], sum = 0;
  for (int i = 0; i < 4; ++i) {
    codes[i] = s.factor == 0.0f ? 0 : code_of(x[i], s.factor);
    sum += codes[i];
  }
  const int first = lane_sum<4>(sum);  // of 16 columns
  const int all = lane_sum<8>(sum);
  const unsigned lane = lane_id() % 8;
  if (!live) return;
  *reinterpret_cast<unsigned*>(to.codes + block * kBlockColumns + 4 * lane) =
      pack_bytes(codes[0], codes[1], codes[2], codes[3]);
  if (lane == 0) to.blocks[block] = {s.scale, static_cast<short>(all), static_cast<short>(first)};
}

// A warp quantises one block, one column a lane.
DEVICE void quantise_one(const QuantisedRows& to, unsigned long long block, float x, bool live) {
  const BlockScale s = block_scale(lane_largest<32>(magnitude(x)));
  const int code = s.factor == 0.0f ? 0 : code_of(x, s.factor);
  const int first = lane_sum<16>(code);
  const int all = lane_sum<32>(code);
  if (!live) return;
  to.codes[block * kBlockColumns + lane_id()] = static_cast<signed char>(code);
  if (lane_id() == 0) to.blocks[block] = {s.scale, static_cast<short>(all), static_cast<short>(first)};
}

// Grid: rows.
KERNEL(quantise, kQuantiseThreads)(QuantiseArgs args) {
  await_predecessor();
  const float* x = args.x.data + blockIdx.x * args.x.stride;
  const unsigned cols = args.x.cols, blocks = cols / kBlockColumns;
  for (unsigned base = warp_id() * 128; base < cols; base += kQuantiseThreads * 4) {
    const unsigned at = base + 4 * lane_id();
    const bool live = at < cols;
    float v[4];
    for (unsigned i = 0; i < 4; ++i) v[i] = live ? x[at + i] : 0.0f;
    quantise_four(args.to, blockIdx.x * static_cast<unsigned long long>(blocks) + at / kBlockColumns, v, live);
  }
}

}  // namespace qwen35::cuda
