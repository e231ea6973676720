// A device without arithmetic, for tests of what is above it. A row of activations carries the token and position that
// embed gave it in its first two columns, from operation to operation and into its logits; pages and recurrent state
// keep tokens. So a test sees which rows, pages and slots met, and a failure can be had at any allocation and
// operation.
#pragma once

#include <memory>

#include "backend/backend.h"
#include "devices/fake/fake_pools.h"
#include "devices/fake/record.h"

namespace qwen35::fake {

class FakeBackend final : public Backend {
 public:
  explicit FakeBackend(std::shared_ptr<Record> record) : record_(std::move(record)), memory_{*record_, {}, {}} {}

  std::unique_ptr<Weight> view(const Weight& w, std::size_t first, std::size_t rows) const override;
  std::unique_ptr<Weight> pack(const MatrixView& source, std::size_t groups, const Consumed& consumed) override;
  std::unique_ptr<Buffer> allocate(std::size_t bytes) override;
  std::unique_ptr<KvPool> kv_pool(const KvSpec& spec) override { return std::make_unique<FakeKvPool>(spec, memory_); }
  std::unique_ptr<StatePool> state_pool(const StateSpec& spec) override {
    return std::make_unique<FakeStatePool>(spec, memory_);
  }
  std::uint32_t state_layout() const noexcept override { return 0; }
  void copy(DevicePtr<std::byte> to, DevicePtr<const std::byte> from, std::size_t bytes) override;
  void upload(DevicePtr<std::byte> to, const std::byte* from, std::size_t bytes) override;
  void download(std::byte* to, DevicePtr<const std::byte> from, std::size_t bytes) override;
  void synchronize() override {}
  // As if every count took a second.
  MeasuredRate read_memory(std::size_t bytes, unsigned) override { return {bytes, 1.0}; }
  MeasuredRate multiply_int8(unsigned) override { return {1, 1.0}; }
  const char* name() const noexcept override { return "fake"; }
  DeviceLimits limits() const noexcept override {
    return {.query_heads = 128, .head_unit = 16, .conv_width = 4, .value_unit = 32};
  }

 private:
  void do_reserve(const ModelShape& model, const Step& step) override;
  void do_run(const Step& step, const std::function<void()>& pass) override;
  void do_embed(Tensor out, const Weight& table) override;
  void do_rms_norm(Tensor out, Tensor x, DevicePtr<const float> weight, float eps) override;
  void do_matmul(Tensor x, std::span<const Projection> projections) override;
  void do_matmul_add(Tensor x, Tensor h, const Weight& w) override;
  void do_swiglu(Tensor out, Tensor h, const Weight& gate, const Weight& up) override;
  void do_gated_delta_net(Tensor out, Tensor qkv, Tensor z, Tensor a, Tensor b, const DeltaParameters& parameters,
                          const DeltaShape& shape, float eps, std::uint32_t layer) override;
  void do_norm_rope_append(Tensor q_gate, Tensor k, Tensor v, const HeadNorms& norms, float eps, const Rope& rope,
                           const AttentionShape& shape, std::uint32_t layer) override;
  void do_attend(Tensor out, Tensor q_gate, const AttentionShape& shape, std::uint32_t layer) override;
  void do_route(const Routes& out, Tensor logits, Tensor h, const RouterWeights& weights) override;
  void do_moe_gather(const ExpertActs& out, Tensor h, const ExpertWeights& experts, const Routes& routes) override;
  void do_moe_combine(Tensor x, const ExpertActs& h, const ExpertWeights& experts, const Routes& routes) override;
  void do_take_rows(Tensor out, Tensor x) override;
  void do_previous_rows(Tensor out, Tensor x) override;
  void do_kept_rows(Tensor out) override;
  std::size_t do_top_k(std::span<Candidate> out, Tensor logits, const LogitEdits& edits, double* log_sum) override;

  std::vector<Token> advance(const StepSegment& segment, std::uint32_t layer);
  void append(const StepSegment& segment, std::uint32_t layer);
  std::vector<Token> look_back(const StepSegment& segment, std::uint32_t row, std::uint32_t layer);

  std::shared_ptr<Record> record_;
  Memory memory_;
  Step step_{};
  std::size_t reserved_rows_ = 0;  // by the last reserve()
  TopK top_k_;
};

}  // namespace qwen35::fake
