// Scalar twins of rms_norm, gated_rms_norm, l2_norm, norm_rope and sigmoid_gate. Sums run in double, where the
// product of two floats is exact, over sixteen lanes folded by halves: the order that vectors of any width can keep.
#include <cmath>

#include "devices/cpu/kernels.h"
#include "devices/cpu/math.h"

namespace qwen35::cpu {
namespace {

constexpr std::size_t kLanes = 16;

double dot_product(const float* x, const float* y, std::size_t n) noexcept {
  double lane[kLanes] = {};
  for (std::size_t i = 0; i < n; ++i) lane[i % kLanes] += static_cast<double>(x[i]) * static_cast<double>(y[i]);
  for (std::size_t half = kLanes / 2; half > 0; half /= 2) {
    for (std::size_t i = 0; i < half; ++i) lane[i] += lane[i + half];
  }
  return lane[0];
}

float rms_scale(const float* x, std::size_t n, float eps) noexcept {
  return static_cast<float>(1.0 / std::sqrt(dot_product(x, x, n) / static_cast<double>(n) + static_cast<double>(eps)));
}

void rms_norm(float* out, const float* x, const float* weight, std::size_t cols, float eps) noexcept {
  const float scale = rms_scale(x, cols, eps);
  for (std::size_t i = 0; i < cols; ++i) out[i] = x[i] * scale * weight[i];
}

void gated_rms_norm(const GatedNormArgs& args) noexcept {
  for (std::size_t t = 0; t < args.rows; ++t) {
    const float* x = args.x + t * args.width;
    const float* z = args.z + t * args.gate_stride;
    const float scale = rms_scale(x, args.width, args.eps);
    for (std::size_t i = 0; i < args.width; ++i) {
      args.out[t * args.stride + i] = x[i] * scale * args.weight[i] * silu(z[i]);
    }
  }
}

void l2_norm(float* out, const float* x, std::size_t width, float scale, float eps) noexcept {
  const double length = std::sqrt(dot_product(x, x, width) + static_cast<double>(eps));
  const float factor = static_cast<float>(static_cast<double>(scale) / length);
  for (std::size_t i = 0; i < width; ++i) out[i] = x[i] * factor;
}

void norm_rope(float* x, const float* weight, std::size_t width, float eps, const float* cosine, const float* sine,
               std::size_t pairs) noexcept {
  rms_norm(x, x, weight, width, eps);
  for (std::size_t i = 0; i < pairs; ++i) {
    const float a = x[i], b = x[i + pairs];
    x[i] = std::fmaf(-b, sine[i], a * cosine[i]);
    x[i + pairs] = std::fmaf(b, cosine[i], a * sine[i]);
  }
}

void sigmoid_gate(float* h, float gate, std::size_t cols) noexcept {
  const float open = sigmoid(gate);
  for (std::size_t i = 0; i < cols; ++i) h[i] *= open;
}

}  // namespace

void add_reference_norm(Table& table) noexcept {
  table.rms_norm = rms_norm;
  table.gated_rms_norm = gated_rms_norm;
  table.l2_norm = l2_norm;
  table.norm_rope = norm_rope;
  table.sigmoid_gate = sigmoid_gate;
}

}  // namespace qwen35::cpu
