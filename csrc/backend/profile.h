// A backend that times another: every call is forwarded, and its seconds and number are kept per operation. The model
// itself knows nothing of clocks.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <span>

#include "backend/backend.h"

namespace qwen35 {

struct OperationTime {
  const char* name;
  std::uint64_t calls = 0;
  std::chrono::nanoseconds time{};
};

// Memory is neither timed nor counted: what a pass spends there, and between operations, is what its caller has left
// over. Operations take turns (Model::DeviceLock), and so do reset() and times().
class ProfiledBackend final : public Backend {
 public:
  explicit ProfiledBackend(std::unique_ptr<Backend> inner);

  // Products with this weight are counted as "head", not as "matmul".
  void set_head(const Weight* head) noexcept { head_ = head; }
  // One entry per operation, and last "waiting": time in any of them during which the caller waited for other threads,
  // which the operation's own entry leaves out.
  std::span<const OperationTime> times() const noexcept { return times_; }
  void reset() noexcept;

  std::unique_ptr<Weight> pack(const MatrixView& source, std::size_t groups, const Consumed& consumed) override;
  std::unique_ptr<Buffer> allocate(std::size_t bytes) override;
  std::size_t kv_page_bytes(KvFormat format, const AttentionShape& shape) const override;
  std::size_t quantised_page_bytes(KvFormat format, const AttentionShape& shape) const override;
  void copy(std::byte* to, const std::byte* from, std::size_t bytes) override;
  void upload(std::byte* to, const std::byte* from, std::size_t bytes) override;
  void download(std::byte* to, const std::byte* from, std::size_t bytes) override;
  void synchronize() override;
  const char* name() const noexcept override { return inner_->name(); }
  std::chrono::nanoseconds waited() const noexcept override { return inner_->waited(); }

  void embed(Tensor out, const Weight& table, std::span<const Token> tokens) override;
  void rms_norm(Tensor out, Tensor x, const float* weight, float eps) override;
  void matmul(Tensor x, std::initializer_list<Projection> projections) override;
  void matmul_add(Tensor x, Tensor h, const Weight& w) override;
  void swiglu(Tensor out, Tensor h, const Weight& gate, const Weight& up) override;
  void gated_delta_net(Tensor out, Tensor qkv, Tensor z, Tensor a, Tensor b, const DeltaParameters& parameters,
                       const DeltaShape& shape, float eps, std::span<const DeltaSegment> segments) override;
  void norm_rope_append(Tensor q_gate, Tensor k, Tensor v, const float* q_norm, const float* k_norm, float eps,
                        const Rope& rope, const AttentionShape& shape, std::span<const KvSegment> segments) override;
  void attend(Tensor out, Tensor q_gate, const AttentionShape& shape, std::span<const KvSegment> segments) override;
  void route(std::int32_t* experts, float* weights, Tensor logits, std::uint32_t top_k) override;
  void moe_gather(Tensor out, Tensor h, const Weight& gate, const Weight* up, const std::int32_t* experts,
                  std::uint32_t top_k, std::uint32_t expert_count, const SharedExpert* shared) override;
  void moe_combine(Tensor x, Tensor h, const Weight& down, const std::int32_t* experts, const float* weights,
                   std::uint32_t top_k, std::uint32_t expert_count, const SharedExpert* shared) override;
  void sigmoid_gate(Tensor h, Tensor gate) override;
  void take_rows(Tensor out, Tensor x, std::span<const std::uint32_t> rows) override;

 private:
  enum Operation : std::size_t {
    kEmbed,
    kRmsNorm,
    kMatmul,
    kMatmulAdd,
    kSwiglu,
    kHead,
    kGatedDeltaNet,
    kNormRopeAppend,
    kAttend,
    kRoute,
    kMoeGather,
    kMoeCombine,
    kSigmoidGate,
    kTakeRows,
    kWaiting,
    kOperations
  };

  template <class Call>
  void timed(Operation operation, Call&& call);

  std::unique_ptr<Backend> inner_;
  const Weight* head_ = nullptr;
  std::array<OperationTime, kOperations> times_;
};

}  // namespace qwen35
