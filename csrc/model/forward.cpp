// The forward pass of Qwen3.5. Three layers in four keep a recurrent state of fixed size (Gated DeltaNet); every fourth
// attends to all earlier tokens (gated attention). A feed-forward block follows each, dense or a mixture of experts.
// Prefill and decode are the same code with different T. Formulas: docs/architecture.md 1 to 4.
#include "model/forward.h"

#include <cstdint>
#include <variant>

namespace qwen35 {
namespace {

struct Pass {  // what every block needs, so that a block's own arguments are its own
  Backend& ops;
  const Config& config;
  const Rope& rope;
  const Activations& s;

  // Gated DeltaNet: x += out(norm(delta_rule(conv(qkv(h)))) * silu(z(h))).
  void mix(const DeltaNetWeights& w, std::uint32_t layer) {
    ops.matmul(s.h, {{s.qkv, w.qkv}, {s.z, w.z}, {s.a, w.a}, {s.b, w.b}});
    ops.gated_delta_net(s.mix, s.qkv, s.z, s.a, s.b, {w.conv, w.ssm_a, w.dt_bias, w.norm}, config.delta, config.eps,
                        layer);
    ops.matmul_add(s.x, s.mix, *w.out);
  }

  // Gated attention: x += out(attend(q, k, v) * sigmoid(gate)).
  void mix(const AttentionWeights& w, std::uint32_t layer) {
    ops.matmul(s.h, {{s.q_gate, w.q_gate}, {s.k, w.k}, {s.v, w.v}});
    ops.norm_rope_append(s.q_gate, s.k, s.v, {w.q_norm, w.k_norm}, config.eps, rope, config.attention, layer);
    ops.attend(s.attended, s.q_gate, config.attention, layer);
    ops.matmul_add(s.x, s.attended, *w.out);
  }

  // Dense: x += down(silu(gate(h)) * up(h)).
  void feed(const DenseWeights& w) {
    ops.swiglu(s.act, s.h, *w.gate, *w.up);
    ops.matmul_add(s.x, s.act, *w.down);
  }

  // Mixture of experts: the router's top K, and one shared expert behind its own gate.
  void feed(const MoeWeights& w) {
    ops.route(s.routes, s.router, s.h, {w.router, w.shared_gate});
    const ExpertActs acts{.routed = s.expert_act, .shared = s.act};
    ops.moe_gather(acts, s.h, w.experts, s.routes);
    ops.moe_combine(s.x, acts, w.experts, s.routes);
  }
};

// s.x = join([norm(embed(token)); norm(hidden)]).
void join_pairs(Backend& ops, const MtpWeights& block, const Config& config, const Activations& s, Tensor hidden) {
  const auto half = [&](std::size_t i) {
    return Tensor{s.joined.data + i * config.hidden, s.joined.rows, config.hidden, s.joined.stride};
  };
  ops.embed(s.x, *block.embedding);
  ops.rms_norm(half(0), s.x, block.embedding_norm, config.eps);
  ops.rms_norm(half(1), hidden, block.hidden_norm, config.eps);
  ops.matmul(s.joined, {{s.x, block.join}});
  ops.rms_norm(s.h, s.x, block.layer.mixer_norm, config.eps);
}

}  // namespace

void forward(Backend& ops, const Weights& model, const Config& config, const Rope& rope, const Activations& s,
             std::size_t outputs) {
  ops.embed(s.x, *model.embedding);
  forward_layers(ops, model, config, rope, s);
  Tensor last = s.x;
  if (outputs != s.x.rows) ops.take_rows(last = s.h.first_rows(outputs), s.x);
  ops.rms_norm(s.last.first_rows(outputs), last, model.norm, config.eps);
}

void forward_layers(Backend& ops, const Weights& model, const Config& config, const Rope& rope, const Activations& s) {
  Pass pass{ops, config, rope, s};
  for (const LayerWeights& layer : model.layers) {
    ops.rms_norm(s.h, s.x, layer.mixer_norm, config.eps);
    std::visit([&](const auto& w) { pass.mix(w, layer.index); }, layer.mixer);
    ops.rms_norm(s.h, s.x, layer.feed_forward_norm, config.eps);
    std::visit([&](const auto& w) { pass.feed(w); }, layer.feed_forward);
  }
}

void append_pairs(Backend& ops, const MtpWeights& block, const Config& config, const Rope& rope, const Activations& s) {
  join_pairs(ops, block, config, s, s.h);
  const auto& w = std::get<AttentionWeights>(block.layer.mixer);
  ops.matmul(s.h, {{s.k, w.k}, {s.v, w.v}});
  ops.norm_rope_append(s.q_gate.first_rows(0), s.k, s.v, {w.q_norm, w.k_norm}, config.eps, rope, config.attention, 0);
}

void draft_layer(Backend& ops, const MtpWeights& block, const Config& config, const Rope& rope, const Activations& s,
                 Tensor hidden) {
  join_pairs(ops, block, config, s, hidden);
  Pass pass{ops, config, rope, s};
  pass.mix(std::get<AttentionWeights>(block.layer.mixer), 0);
  ops.rms_norm(s.h, s.x, block.layer.feed_forward_norm, config.eps);
  std::visit([&](const auto& w) { pass.feed(w); }, block.layer.feed_forward);
  ops.rms_norm(s.last, s.x, block.norm, config.eps);
}

Tensor project(Backend& ops, const Weights& model, const Activations& s, std::size_t first, std::size_t count) {
  const Tensor logits = s.logits.first_rows(count);
  ops.matmul(s.last.rows_from(first, count), {{logits, model.head}});
  return logits;
}

}  // namespace qwen35
