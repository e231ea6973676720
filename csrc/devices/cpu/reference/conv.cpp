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
    float past[kKept] = {window[0], window[args.channels], window[2 * args.channels]};
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
    for (std::size_t j = 0; j < kKept; ++j) window[j * args.channels] = past[j];
  }
}

}  // namespace

void add_reference_conv(Table& table) noexcept { table.conv_silu = conv_silu; }

}  // namespace qwen35::cpu
