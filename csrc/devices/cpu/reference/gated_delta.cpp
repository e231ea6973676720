// Scalar twins of delta_dots, delta_gates and gated_delta_rule, the last on one tile of value columns: the recurrence
//   d_i = beta_i (v_i - decay_i S_{i-1}^T k_i),  S_i = decay_i S_{i-1} + k_i d_i^T,  o_i = S_i^T q_i
// solved for the tokens of a chunk against the S they all start from (docs/architecture.md 2.7 by forward
// substitution):
//   d_i = beta_i (v_i - D_i S^T k_i - sum_{j<i} L_ij (k_j . k_i) d_j)
//   o_i = D_i S^T q_i + sum_{j<=i} L_ij (k_j . q_i) d_j
// where D_i is the product of the decays up to i and L_ij that of those after j. S takes up a chunk once its last token
// cannot be taken back. A token asks only for S, itself and the chunk's tokens before it, in one order of additions:
// cutting tokens into calls, or heads into tiles, changes no bit. Decays are multiplied, never divided by: however
// strong, they fade to 0.
#include <cmath>

#include "devices/cpu/kernels.h"
#include "devices/cpu/math.h"

namespace qwen35::cpu {
namespace {

constexpr std::size_t kLanes = 16;

void delta_dots(float* out, const float* x, const float* rows, std::size_t count, std::size_t width) noexcept {
  for (std::size_t j = 0; j < count; ++j, rows += width) {
    float lane[kLanes] = {};
    for (std::size_t i = 0; i < width; ++i) lane[i % kLanes] = std::fmaf(x[i], rows[i], lane[i % kLanes]);
    for (std::size_t half = kLanes / 2; half > 0; half /= 2) {
      for (std::size_t i = 0; i < half; ++i) lane[i] += lane[i + half];
    }
    out[j] = lane[0];
  }
}

void delta_gates(float* a, float* b, float ssm_a, float dt_bias, std::size_t count) noexcept {
  for (std::size_t t = 0; t < count; ++t) {
    a[t] = exp(ssm_a * softplus(a[t] + dt_bias));
    b[t] = sigmoid(b[t]);
  }
}

// Token i of the chunk that starts at row `chunk` and whose deltas are `deltas`, against S at `state`.
void step(const DeltaArgs& args, const float* state, float* deltas, std::size_t chunk, std::size_t i) noexcept {
  const DeltaStep& step = args.step[chunk + i];
  const float* query = args.query + (chunk + i) * args.width;
  const float* key = args.key + (chunk + i) * args.width;
  const float* value = args.value + (chunk + i) * args.value_stride;
  float* out = args.out + (chunk + i) * args.value_stride;
  float p[kValueTile] = {}, m[kValueTile] = {};
  for (std::size_t k = 0; k < args.width; ++k) {
    const float* s = state + k * kValueTile;
    for (std::size_t v = 0; v < kValueTile; ++v) p[v] = std::fmaf(key[k], s[v], p[v]);
    for (std::size_t v = 0; v < kValueTile; ++v) m[v] = std::fmaf(query[k], s[v], m[v]);
  }
  for (std::size_t v = 0; v < kValueTile; ++v) {
    float* d = deltas + v;
    float error = std::fmaf(-step.decay, p[v], value[v]);
    float read = step.decay * m[v];
    for (std::size_t j = 0; j < i; ++j) {
      error = std::fmaf(-step.key[j], d[j * kValueTile], error);
      read = std::fmaf(step.query[j], d[j * kValueTile], read);
    }
    d[i * kValueTile] = step.beta * error;
    out[v] = std::fmaf(step.query[i], d[i * kValueTile], read);
  }
}

// to = S after the whole chunk that starts at row `chunk`, from = S before it; they may be the same.
void commit(const DeltaArgs& args, const float* from, float* to, const float* deltas, std::size_t chunk) noexcept {
  const DeltaStep& last = args.step[chunk + kDeltaSteps - 1];
  float d[kDeltaSteps][kValueTile];
  for (std::size_t j = 0; j < kDeltaSteps; ++j) {
    for (std::size_t v = 0; v < kValueTile; ++v) d[j][v] = last.kept[j] * deltas[j * kValueTile + v];
  }
  for (std::size_t k = 0; k < args.width; ++k) {
    float* s = to + k * kValueTile;
    for (std::size_t v = 0; v < kValueTile; ++v) s[v] = from[k * kValueTile + v] * last.decay;
    for (std::size_t j = 0; j < kDeltaSteps; ++j) {
      const float key = args.key[(chunk + j) * args.width + k];
      for (std::size_t v = 0; v < kValueTile; ++v) s[v] = std::fmaf(key, d[j][v], s[v]);
    }
  }
}

void gated_delta_rule(const DeltaArgs& args) noexcept {
  const std::size_t taken_up = args.first / kDeltaSteps * kDeltaSteps;
  for (std::size_t chunk = 0; chunk < taken_up; chunk += kDeltaSteps) {
    commit(args, args.state, args.state, args.deltas + chunk * kValueTile, chunk);
  }
  for (std::size_t i = taken_up * kValueTile; i < args.first * kValueTile; ++i) {
    args.deltas[i - taken_up * kValueTile] = args.deltas[i];
  }
  const float* state = args.state;
  float* deltas = args.deltas;
  for (std::size_t t = args.first; t < args.rows; ++t) {
    const std::size_t i = t % kDeltaSteps, end = t + 1;
    step(args, state, deltas, t - i, i);
    if (end % kDeltaSteps != 0) continue;
    if (end <= args.certain) {
      commit(args, args.state, args.state, deltas, t - i);
      continue;
    }
    if (end < args.rows) {
      commit(args, state, args.scratch, deltas, t - i);
      state = args.scratch;
    }
    deltas += kDeltaSteps * kValueTile;
  }
}

}  // namespace

void add_reference_gated_delta(Table& table) noexcept {
  table.delta_dots = delta_dots;
  table.delta_gates = delta_gates;
  table.gated_delta_rule = gated_delta_rule;
}

}  // namespace qwen35::cpu
