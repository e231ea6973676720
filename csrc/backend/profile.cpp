#include "backend/profile.h"

#include <utility>

namespace qwen35 {
namespace {

using Clock = std::chrono::steady_clock;

}  // namespace

// In the order of Operation.
ProfiledBackend::ProfiledBackend(std::unique_ptr<Backend> inner)
    : inner_(std::move(inner)),
      times_{{{"embed"},
              {"rms_norm"},
              {"matmul"},
              {"matmul_add"},
              {"swiglu"},
              {"head"},
              {"gated_delta_net"},
              {"norm_rope_append"},
              {"attend"},
              {"route"},
              {"moe_gather"},
              {"moe_combine"},
              {"sigmoid_gate"},
              {"take_rows"},
              {"waiting"}}} {}

void ProfiledBackend::reset() noexcept {
  for (OperationTime& entry : times_) entry = {entry.name};
}

template <class Call>
void ProfiledBackend::timed(Operation operation, Call&& call) {
  const auto waited = inner_->waited();
  const auto begin = Clock::now();
  call();
  const auto whole = std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - begin);
  const auto waiting = inner_->waited() - waited;
  ++times_[operation].calls;
  times_[operation].time += whole - waiting;
  ++times_[kWaiting].calls;
  times_[kWaiting].time += waiting;
}

std::unique_ptr<Weight> ProfiledBackend::pack(const MatrixView& source, std::size_t groups, const Consumed& consumed) {
  return inner_->pack(source, groups, consumed);
}

std::unique_ptr<Buffer> ProfiledBackend::allocate(std::size_t bytes) { return inner_->allocate(bytes); }

std::size_t ProfiledBackend::kv_page_bytes(KvFormat format, const AttentionShape& shape) const {
  return inner_->kv_page_bytes(format, shape);
}
std::size_t ProfiledBackend::quantised_page_bytes(KvFormat format, const AttentionShape& shape) const {
  return inner_->quantised_page_bytes(format, shape);
}

void ProfiledBackend::copy(std::byte* to, const std::byte* from, std::size_t bytes) { inner_->copy(to, from, bytes); }

void ProfiledBackend::upload(std::byte* to, const std::byte* from, std::size_t bytes) {
  inner_->upload(to, from, bytes);
}

void ProfiledBackend::download(std::byte* to, const std::byte* from, std::size_t bytes) {
  inner_->download(to, from, bytes);
}

void ProfiledBackend::synchronize() { inner_->synchronize(); }

void ProfiledBackend::embed(Tensor out, const Weight& table, std::span<const Token> tokens) {
  timed(kEmbed, [&] { inner_->embed(out, table, tokens); });
}

void ProfiledBackend::rms_norm(Tensor out, Tensor x, const float* weight, float eps) {
  timed(kRmsNorm, [&] { inner_->rms_norm(out, x, weight, eps); });
}

void ProfiledBackend::matmul(Tensor x, std::initializer_list<Projection> projections) {
  const bool is_head = projections.size() == 1 && projections.begin()->w == head_;
  timed(is_head ? kHead : kMatmul, [&] { inner_->matmul(x, projections); });
}

void ProfiledBackend::matmul_add(Tensor x, Tensor h, const Weight& w) {
  timed(kMatmulAdd, [&] { inner_->matmul_add(x, h, w); });
}

void ProfiledBackend::swiglu(Tensor out, Tensor h, const Weight& gate, const Weight& up) {
  timed(kSwiglu, [&] { inner_->swiglu(out, h, gate, up); });
}

void ProfiledBackend::gated_delta_net(Tensor out, Tensor qkv, Tensor z, Tensor a, Tensor b,
                                      const DeltaParameters& parameters, const DeltaShape& shape, float eps,
                                      std::span<const DeltaSegment> segments) {
  timed(kGatedDeltaNet, [&] { inner_->gated_delta_net(out, qkv, z, a, b, parameters, shape, eps, segments); });
}

void ProfiledBackend::norm_rope_append(Tensor q_gate, Tensor k, Tensor v, const float* q_norm, const float* k_norm,
                                       float eps, const Rope& rope, const AttentionShape& shape,
                                       std::span<const KvSegment> segments) {
  timed(kNormRopeAppend, [&] { inner_->norm_rope_append(q_gate, k, v, q_norm, k_norm, eps, rope, shape, segments); });
}

void ProfiledBackend::attend(Tensor out, Tensor q_gate, const AttentionShape& shape,
                             std::span<const KvSegment> segments) {
  timed(kAttend, [&] { inner_->attend(out, q_gate, shape, segments); });
}

void ProfiledBackend::route(std::int32_t* experts, float* weights, Tensor logits, std::uint32_t top_k) {
  timed(kRoute, [&] { inner_->route(experts, weights, logits, top_k); });
}

void ProfiledBackend::moe_gather(Tensor out, Tensor h, const Weight& gate, const Weight* up,
                                 const std::int32_t* experts, std::uint32_t top_k, std::uint32_t expert_count,
                                 const SharedExpert* shared) {
  timed(kMoeGather, [&] { inner_->moe_gather(out, h, gate, up, experts, top_k, expert_count, shared); });
}

void ProfiledBackend::moe_combine(Tensor x, Tensor h, const Weight& down, const std::int32_t* experts,
                                  const float* weights, std::uint32_t top_k, std::uint32_t expert_count,
                                  const SharedExpert* shared) {
  timed(kMoeCombine, [&] { inner_->moe_combine(x, h, down, experts, weights, top_k, expert_count, shared); });
}

void ProfiledBackend::sigmoid_gate(Tensor h, Tensor gate) {
  timed(kSigmoidGate, [&] { inner_->sigmoid_gate(h, gate); });
}

void ProfiledBackend::take_rows(Tensor out, Tensor x, std::span<const std::uint32_t> rows) {
  timed(kTakeRows, [&] { inner_->take_rows(out, x, rows); });
}

}  // namespace qwen35
