// The CPU: cuts every operation into rows or heads, spreads them over the workers and calls the kernel table.
// Work memory and the team exist once, for one caller at a time (backend.h).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "base/workers.h"
#include "devices/cpu/arena.h"
#include "devices/cpu/isa.h"
#include "devices/cpu/kernels.h"
#include "devices/cpu/panels.h"
#include "devices/cpu/pass.h"
#include "devices/cpu/peak.h"
#include "devices/cpu/pools.h"
#include "devices/cpu/work.h"

namespace qwen35::cpu {

struct AttendPlan;    // cpu_attention.cpp
class QuantisedPage;  // quantised_page.h
struct RowLists;      // matmul.h

inline constexpr DeviceLimits kLimits{kQueryBlock, kKeyLanes, kConvTaps, kValueTile};

class CpuBackend final : public Backend {
 public:
  CpuBackend(Isa isa, unsigned threads);  // 0 threads: as many as this process may use

  std::unique_ptr<Weight> view(const Weight& w, std::size_t first, std::size_t rows) const override;
  std::unique_ptr<Weight> pack(const MatrixView& source, std::size_t groups, const Consumed& consumed) override;
  std::unique_ptr<Buffer> allocate(std::size_t bytes) override;
  std::unique_ptr<KvPool> kv_pool(const KvSpec& spec) override;
  std::unique_ptr<StatePool> state_pool(const StateSpec& spec) override;
  std::uint32_t state_layout() const noexcept override { return StateLayout::kVersion; }
  void copy(DevicePtr<std::byte> to, DevicePtr<const std::byte> from, std::size_t bytes) override;
  void upload(DevicePtr<std::byte> to, const std::byte* from, std::size_t bytes) override;
  void download(std::byte* to, DevicePtr<const std::byte> from, std::size_t bytes) override;
  void synchronize() override {}
  MeasuredRate read_memory(std::size_t bytes, unsigned repetitions) override {
    return cpu::read_memory(table_, workers_, bytes, repetitions);
  }
  MeasuredRate multiply_int8(unsigned repetitions) override {
    return cpu::multiply_int8(table_, workers_, repetitions);
  }
  const char* name() const noexcept override { return name_.c_str(); }
  DeviceLimits limits() const noexcept override { return kLimits; }
  const char* weight_layout() const noexcept override { return PackedWeight::kLayout; }
  std::size_t work_bytes() const noexcept override { return work_.bytes(); }
  const Table& table() const noexcept { return table_; }
  std::chrono::nanoseconds waited() const noexcept override { return workers_.waited(); }

 private:
  // cpu_backend.cpp
  void do_reserve(const ModelShape& model, const Step& step) override;
  void do_run(const Step& step, const std::function<void()>& pass) override;
  void do_rms_norm(Tensor out, Tensor x, DevicePtr<const float> weight, float eps) override;
  void do_route(const Routes& out, Tensor logits, Tensor h, const RouterWeights& weights) override;
  void do_take_rows(Tensor out, Tensor x) override;
  void do_previous_rows(Tensor out, Tensor x) override;
  void do_kept_rows(Tensor out) override;
  std::size_t do_top_k(std::span<Candidate> out, Tensor logits, const LogitEdits& edits, double* log_sum) override;

  // cpu_delta.cpp
  void do_gated_delta_net(Tensor out, Tensor qkv, Tensor z, Tensor a, Tensor b, const DeltaParameters& parameters,
                          const DeltaShape& shape, float eps, std::uint32_t layer) override;

  // cpu_attention.cpp
  void do_norm_rope_append(Tensor q_gate, Tensor k, Tensor v, const HeadNorms& norms, float eps, const Rope& rope,
                           const AttentionShape& shape, std::uint32_t layer) override;
  void do_attend(Tensor out, Tensor q_gate, const AttentionShape& shape, std::uint32_t layer) override;

  // cpu_matmul.cpp
  void do_embed(Tensor out, const Weight& table) override;
  void do_matmul(Tensor x, std::span<const Projection> projections) override;
  void do_matmul_add(Tensor x, Tensor h, const Weight& w) override;
  void do_swiglu(Tensor out, Tensor h, const Weight& gate, const Weight& up) override;

  // cpu_moe.cpp
  void do_moe_gather(const ExpertActs& out, Tensor h, const ExpertWeights& experts, const Routes& routes) override;
  void do_moe_combine(Tensor x, const ExpertActs& h, const ExpertWeights& experts, const Routes& routes) override;

  // cpu_matmul.cpp
  RowLists prepare(Tensor x, std::span<const Projection> projections);
  void multiply(Tensor x, std::span<const Projection> projections, bool adds);

  const float* rope_table(const Rope& rope);
  void quantise_pages(const KvSegment& segment, const QuantisedPage& page);
  void attend_rows(const AttendPlan& plan);
  void attend_splits(const AttendPlan& plan);

  const Table& table_;
  std::string name_;
  Workers workers_;
  Arena arena_;  // of packed weights
  Pool memory_;  // of buffers, pages and slots
  Pages pages_;
  Slots slots_;
  Pass pass_;  // that runs

  Work work_;
  DevicePtr<const double> rope_of_;  // the frequencies that WorkPart::kRope is filled for; null before a pass used any
  TopK top_k_;
  bool quantises_ = false;  // a weight that was packed here is multiplied by quantised rows
};

}  // namespace qwen35::cpu
