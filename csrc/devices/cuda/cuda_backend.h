// A CUDA card. An operation only puts kernels behind one another on one stream; within a pass they are collected and
// run as one graph (Context::end_recording).
#pragma once

#include <memory>
#include <string>

#include "backend/backend.h"
#include "base/workers.h"
#include "devices/cuda/attention_work.h"
#include "devices/cuda/context.h"
#include "devices/cuda/device_step.h"
#include "devices/cuda/host_table.h"
#include "devices/cuda/memory.h"
#include "devices/cuda/quantised_memo.h"
#include "devices/cuda/staging.h"
#include "devices/cuda/weight.h"
#include "devices/cuda/work_memory.h"
#include "devices/places.h"

namespace qwen35::cuda {

inline constexpr DeviceLimits kLimits{.query_heads = 16, .head_unit = 16, .conv_width = 4, .value_unit = 32};

// What the products of a pass of so many rows work in.
std::size_t product_work_bytes(const ModelShape& model, std::size_t rows);
// What top_k takes of a row of so many logits, with no more edits than it lists tokens for.
std::size_t top_k_bytes(std::size_t vocabulary);
// What the order of pairs by expert takes.
std::size_t sorted_bytes(std::size_t pairs, std::size_t experts);

struct PickPlaces;  // cuda_top_k.cpp

class CudaStatePool;

class CudaBackend final : public Backend {
 public:
  CudaBackend(unsigned number, unsigned threads);  // 0 threads of the host: as many as this process may use
  ~CudaBackend() override;

  std::unique_ptr<Weight> view(const Weight& w, std::size_t first, std::size_t rows) const override;
  std::unique_ptr<Weight> pack(const MatrixView& source, std::size_t groups, const Consumed& consumed) override;
  std::unique_ptr<Weight> pack_table(const MatrixView& source, std::shared_ptr<const Mapping> mapping,
                                     const Consumed& consumed) override;
  std::unique_ptr<Buffer> allocate(std::size_t bytes) override;
  std::unique_ptr<KvPool> kv_pool(const KvSpec& spec) override;
  std::unique_ptr<StatePool> state_pool(const StateSpec& spec) override;
  std::uint32_t state_layout() const noexcept override;
  void copy(DevicePtr<std::byte> to, DevicePtr<const std::byte> from, std::size_t bytes) override;
  void upload(DevicePtr<std::byte> to, const std::byte* from, std::size_t bytes) override;
  void download(std::byte* to, DevicePtr<const std::byte> from, std::size_t bytes) override;
  void synchronize() override;
  MeasuredRate read_memory(std::size_t bytes, unsigned repetitions) override;
  MeasuredRate multiply_int8(unsigned repetitions) override;
  const char* name() const noexcept override { return name_.c_str(); }
  DeviceLimits limits() const noexcept override { return kLimits; }
  const char* weight_layout() const noexcept override { return CudaWeight::kLayout; }
  const char* table_layout() const noexcept override { return HostTable::kLayout; }
  std::size_t work_bytes() const noexcept override;
  std::uint64_t launches() const noexcept override { return context_->launches(); }

 private:
  // A norm of one row is left to the product that follows, whose kernel takes it on the way; whatever else is launched
  // first settles it.
  template <Kernel kKernel>
  void launch(Grid grid, const typename KernelOf<kKernel>::Args& args, std::size_t shared_bytes = 0,
              unsigned threads = KernelOf<kKernel>::kThreads) {
    settle_norm();
    context_->launch<kKernel>(grid, args, shared_bytes, threads);
  }
  void settle_norm();
  NormArgs take_norm(Tensor x);  // what is left to do for x; x null where it is there

  // cuda_backend.cpp
  void do_reserve(const ModelShape& model, const Step& step) override;
  void do_run(const Step& step, const std::function<void()>& pass) override;

  // cuda_rows.cpp
  void do_embed(Tensor out, const Weight& table) override;
  void embed_from_host(Tensor out, const HostTable& table);
  void do_rms_norm(Tensor out, Tensor x, DevicePtr<const float> weight, float eps) override;
  void do_route(const Routes& out, Tensor logits, Tensor h, const RouterWeights& weights) override;
  void do_take_rows(Tensor out, Tensor x) override;
  void do_previous_rows(Tensor out, Tensor x) override;
  void do_kept_rows(Tensor out) override;
  const CudaStatePool* hidden_pool(std::size_t width);
  // cuda_peak.cpp
  MeasuredRate fastest(unsigned repetitions, std::size_t blocks, std::uint64_t expected_of_round,
                       const std::function<void(unsigned rounds, std::uint64_t* counts)>& run);
  // cuda_top_k.cpp
  std::size_t do_top_k(std::span<Candidate> out, Tensor logits, const LogitEdits& edits, double* log_sum) override;
  void find_maxima(Tensor logits, std::span<const std::uint32_t> allowed, const PickPlaces& at, double* log_sum);
  bool list_likely(Tensor logits, std::size_t most, const LogitEdits& edits, const PickPlaces& at);
  void collect(const LogitEdits& edits, std::size_t listed);
  std::size_t rank_row(std::span<Candidate> out, Tensor logits, const LogitEdits& edits);

  // cuda_matmul.cpp
  void do_matmul(Tensor x, std::span<const Projection> projections) override;
  void do_matmul_add(Tensor x, Tensor h, const Weight& w) override;
  void do_swiglu(Tensor out, Tensor h, const Weight& gate, const Weight& up) override;
  void open_swiglu(Tensor out, Tensor h, const Weight& gate, const Weight& up, Tensor open);
  void multiply(Tensor x, std::span<const Projection> projections, bool adds);
  template <Kernel kOne, Kernel kTwo, Kernel kEight>
  void launch_few(std::size_t rows, std::size_t blocks, const typename KernelOf<kOne>::Args& args);
  void multiply_few(Tensor x, std::span<const Projection> projections, bool adds, const RouteArgs& route = {});
  void multiply_many(Tensor x, const Projection& projection, bool adds);
  QuantisedRows quantised(Tensor x);          // its codes, made now if there are none
  QuantisedRows quantised_place(Tensor out);  // for the codes of what is about to be written

  // cuda_moe.cpp
  void do_moe_gather(const ExpertActs& out, Tensor h, const ExpertWeights& experts, const Routes& routes) override;
  void do_moe_combine(Tensor x, const ExpertActs& h, const ExpertWeights& experts, const Routes& routes) override;
  void gather_sorted(const ExpertActs& out, Tensor h, const ExpertWeights& experts, const Routes& routes);
  void combine_sorted(Tensor x, const ExpertActs& h, const ExpertWeights& experts, const Routes& routes);
  ExpertOrder sort_by_expert(const Routes& routes, std::size_t rows, std::uint32_t experts);

  // cuda_delta.cpp
  void do_gated_delta_net(Tensor out, Tensor qkv, Tensor z, Tensor a, Tensor b, const DeltaParameters& parameters,
                          const DeltaShape& shape, float eps, std::uint32_t layer) override;

  // cuda_attention.cpp
  void do_norm_rope_append(Tensor q_gate, Tensor k, Tensor v, const HeadNorms& norms, float eps, const Rope& rope,
                           const AttentionShape& shape, std::uint32_t layer) override;
  void do_attend(Tensor out, Tensor q_gate, const AttentionShape& shape, std::uint32_t layer) override;
  NewHeads take_append(const Rows& q_gate, const KvLayer& layer);
  AttendPlan reserve_attention(const AttentionShape& shape, const Step& step);

  std::string name_;
  std::shared_ptr<Context> context_;
  std::shared_ptr<Memory> memory_;
  Workers workers_;
  Pages pages_;
  Slots slots_;
  DeviceStep step_;
  QuantisedMemo memo_;
  AttentionWork attention_;
  WorkMemory sorted_;               // pairs by expert, and their tiles
  WorkMemory products_;             // of the routed experts, before they are added
  Staging staging_{kStagingBytes};  // of pack(), and of rows of a table
  NormArgs norm_{};                 // left to be done; x null: none
  Piece arrived_;                   // a counter of blocks, 0 between kernels
  WorkMemory picks_;                // of top_k
  std::vector<int> ids_;
  std::vector<LikelyToken> listed_;
  std::vector<Candidate> candidates_;
  TopK top_k_;
  std::vector<float> logits_;  // a row on the host
};

inline Rows rows_of(Tensor x) noexcept {
  return {on_card(x.data), x.stride, static_cast<unsigned>(x.rows), static_cast<unsigned>(x.cols)};
}

}  // namespace qwen35::cuda
