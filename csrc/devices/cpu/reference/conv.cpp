// Scalar twin of conv_silu. docs/architecture.md 2.2.
#include <cmath>

#include "devices/cpu/kernels.h"
#include "devices/cpu/math.h"

namespace qwen35::cpu {
namespace {

constexpr std::size_t kKept = kConvTaps - 1;

void conv_silu(const ConvArgs& args) noexcept {
  for (std::size_t c = 0; c < args.count; ++c) {
    const float* tap = args.kernel + c * kConvTaps;
    float* window = args.window + c;
    const float* before = window + args.accepted * args.channels;
    float past[kKept] = {before[0], before[args.channels], before[2 * args.channels]};
    for (std::size_t t = 0; t < args.rows; ++t) {
      const float x = args.x[t * args.stride + c];
      float sum = past[0] * tap[0];
      sum = std::fmaf(past[1], tap[1], sum);
      sum = std::fmaf(past[2], tap[2], sum);
      sum = std::fmaf(x, tap[3], sum);
      past[0] = past[1];
      past[1] = past[2];
      past[2] = x;
      args.out[t * args.out_stride + c] = silu(sum);
    }
    for (std::size_t j = 0; j < kKept + args.rows - args.certain; ++j) {  // a row moves down or stays: none is lost
      const std::size_t row = args.certain + j;                           // of [before; x]
      window[j * args.channels] = row < kKept ? before[row * args.channels] : args.x[(row - kKept) * args.stride + c];
    }
  }
}

}  // namespace

void add_reference_conv(Table& table) noexcept { table.conv_silu = conv_silu; }

}  // namespace qwen35::cpu
