// Scalar twins of delta_gates and gated_delta_rule, the latter in the two-pass form of specification 2.6 on one tile of
// value columns.
//   p = S^T k, m = S^T q;  d = beta (v - decay p);  out = decay m + (q . k) d;  S <- decay S + k d^T
// Every column is its own sum over k in rising order, so cutting heads into tiles or tokens into calls changes no bit.
#include <cmath>

#include "devices/cpu/kernels.h"
#include "devices/cpu/math.h"

namespace qwen35::cpu {
namespace {

void delta_gates(float* decay, float* beta, const float* a, const float* b, const float* a_neg, const float* dt_bias,
                 std::size_t heads) noexcept {
  for (std::size_t j = 0; j < heads; ++j) {
    decay[j] = exp(a_neg[j] * softplus(a[j] + dt_bias[j]));
    beta[j] = sigmoid(b[j]);
  }
}

void gated_delta_rule(const DeltaArgs& args) noexcept {
  for (std::size_t t = 0; t < args.rows; ++t) {
    const float* query = args.query + t * args.unit_stride;
    const float* key = args.key + t * args.unit_stride;
    const float* value = args.value + t * args.value_stride;
    float* out = args.out + t * args.out_stride;
    const float query_key = args.query_key[t * args.dot_stride];
    const float decay = args.decay[t * args.gate_stride];
    const float beta = args.beta[t * args.gate_stride];

    float p[kValueTile] = {}, m[kValueTile] = {}, d[kValueTile];
    for (std::size_t k = 0; k < args.width; ++k) {
      const float* s = args.memory + k * kValueTile;
      for (std::size_t v = 0; v < kValueTile; ++v) p[v] = std::fmaf(key[k], s[v], p[v]);
      for (std::size_t v = 0; v < kValueTile; ++v) m[v] = std::fmaf(query[k], s[v], m[v]);
    }
    for (std::size_t v = 0; v < kValueTile; ++v) {
      d[v] = beta * std::fmaf(-decay, p[v], value[v]);
      out[v] = std::fmaf(query_key, d[v], decay * m[v]);
    }
    for (std::size_t k = 0; k < args.width; ++k) {
      float* s = args.memory + k * kValueTile;
      for (std::size_t v = 0; v < kValueTile; ++v) s[v] = std::fmaf(key[k], d[v], decay * s[v]);
    }
  }
}

}  // namespace

void add_reference_gated_delta(Table& table) noexcept {
  table.delta_gates = delta_gates;
  table.gated_delta_rule = gated_delta_rule;
}

}  // namespace qwen35::cpu
