// Every operation of a backend: checked, timed when a profile is kept, and then the device's.
#include "backend/backend.h"

#include "backend/check.h"

namespace qwen35 {

void Backend::keep_profile(const Weight* head) {
  profile_ = std::make_unique<Profile>();
  head_ = head;
}

template <class Call>
void Backend::timed(Operation operation, Call&& call) {
  if (profile_ == nullptr) return call();
  const auto waited_before = waited();
  const auto begin = std::chrono::steady_clock::now();
  call();
  synchronize();  // what was only enqueued belongs to this operation
  profile_->add(operation, std::chrono::steady_clock::now() - begin, waited() - waited_before);
}

void Backend::embed(Tensor out, const Weight& table, std::span<const Token> tokens) {
  check::embed(out, table, tokens);
  timed(Operation::kEmbed, [&] { do_embed(out, table, tokens); });
}

void Backend::rms_norm(Tensor out, Tensor x, const float* weight, float eps) {
  check::rms_norm(out, x);
  timed(Operation::kRmsNorm, [&] { do_rms_norm(out, x, weight, eps); });
}

void Backend::matmul(Tensor x, std::span<const Projection> projections) {
  for (const Projection& p : projections) check::matmul("matmul", p.out, x, *p.w);
  const bool is_head = projections.size() == 1 && projections.front().w == head_;
  timed(is_head ? Operation::kHead : Operation::kMatmul, [&] { do_matmul(x, projections); });
}

void Backend::matmul_add(Tensor x, Tensor h, const Weight& w) {
  check::matmul("matmul_add", x, h, w);
  timed(Operation::kMatmulAdd, [&] { do_matmul_add(x, h, w); });
}

void Backend::swiglu(Tensor out, Tensor h, const Weight& gate, const Weight& up) {
  check::matmul("swiglu", out, h, gate);
  check::matmul("swiglu", out, h, up);
  timed(Operation::kSwiglu, [&] { do_swiglu(out, h, gate, up); });
}

void Backend::gated_delta_net(Tensor out, Tensor qkv, Tensor z, Tensor a, Tensor b, const DeltaParameters& parameters,
                              const DeltaShape& shape, float eps, std::span<const DeltaSegment> segments) {
  check::gated_delta_net(out, qkv, z, a, b, shape, segments, limits());
  timed(Operation::kGatedDeltaNet, [&] { do_gated_delta_net(out, qkv, z, a, b, parameters, shape, eps, segments); });
}

void Backend::norm_rope_append(Tensor q_gate, Tensor k, Tensor v, const float* q_norm, const float* k_norm, float eps,
                               const Rope& rope, const AttentionShape& shape, std::span<const KvSegment> segments) {
  check::norm_rope_append(q_gate, k, v, rope, shape, segments, limits());
  timed(Operation::kNormRopeAppend,
        [&] { do_norm_rope_append(q_gate, k, v, q_norm, k_norm, eps, rope, shape, segments); });
}

void Backend::attend(Tensor out, Tensor q_gate, const AttentionShape& shape, std::span<const KvSegment> segments) {
  check::attend(out, q_gate, shape, segments, limits());
  timed(Operation::kAttend, [&] { do_attend(out, q_gate, shape, segments); });
}

void Backend::route(std::int32_t* experts, float* weights, Tensor logits, std::uint32_t top_k) {
  check::route(logits, top_k);
  timed(Operation::kRoute, [&] { do_route(experts, weights, logits, top_k); });
}

void Backend::moe_gather(Tensor out, Tensor h, const Weight& gate, const Weight* up, const std::int32_t* experts,
                         std::uint32_t top_k, std::uint32_t expert_count, const SharedExpert* shared) {
  check::moe_gather(out, h, gate, up, top_k, expert_count, shared);
  timed(Operation::kMoeGather, [&] { do_moe_gather(out, h, gate, up, experts, top_k, expert_count, shared); });
}

void Backend::moe_combine(Tensor x, Tensor h, const Weight& down, const std::int32_t* experts, const float* weights,
                          std::uint32_t top_k, std::uint32_t expert_count, const SharedExpert* shared) {
  check::moe_combine(x, h, down, top_k, expert_count, shared);
  timed(Operation::kMoeCombine, [&] { do_moe_combine(x, h, down, experts, weights, top_k, expert_count, shared); });
}

void Backend::sigmoid_gate(Tensor h, Tensor gate) {
  check::sigmoid_gate(h, gate);
  timed(Operation::kSigmoidGate, [&] { do_sigmoid_gate(h, gate); });
}

void Backend::take_rows(Tensor out, Tensor x, std::span<const std::uint32_t> rows) {
  check::take_rows(out, x, rows);
  timed(Operation::kTakeRows, [&] { do_take_rows(out, x, rows); });
}

}  // namespace qwen35
