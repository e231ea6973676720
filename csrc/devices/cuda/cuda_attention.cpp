// Attention layers.
#include <algorithm>
#include <cmath>

#include "base/round_up.h"
#include "devices/cuda/cuda_backend.h"
#include "devices/cuda/kv_pool.h"

namespace qwen35::cuda {
namespace {

// Pages of a segment that its rows, with those that were uncertain before, can fill in one pass.
std::size_t most_filled(const StepSegment& s) noexcept {
  return is_quantised(s.format) && s.count > 0 ? ceil_div(std::size_t{s.count} + kMostUncertain, kPageTokens) : 0;
}

// Whether it does in this one.
bool fills_pages(const StepSegment& s) noexcept {
  const FilledPages filled = filled_pages(s.committed, std::size_t{s.position} + s.certain);
  return is_quantised(s.format) && s.count > 0 && filled.first < filled.last;
}

}  // namespace

std::unique_ptr<KvPool> CudaBackend::kv_pool(const KvSpec& spec) {
  return std::make_unique<CudaKvPool>(spec, *context_, *memory_, pages_);
}

// cos and sin, [rows, 2, pairs], the same for every layer of a pass.
const float* CudaBackend::rope_table(const Rope& rope) {
  const double* inv_freq = on_card(rope.inv_freq);
  const std::size_t rows = step_.view().rows;
  if (rope.pairs > 0 && !attention_.has_angles_of(inv_freq)) {
    const auto& [time, height, width] = rope.sections;
    launch<Kernel::rope_table>({rows}, {.table = attention_.angles(),
                                        .inv_freq = inv_freq,
                                        .step = step_.view(),
                                        .pairs = rope.pairs,
                                        .sections = {time, height, width},
                                        .magnitude = rope.magnitude,
                                        .padding = 0});
  }
  return attention_.angles();
}

void CudaBackend::do_norm_rope_append(Tensor q_gate, Tensor k, Tensor v, const HeadNorms& norms, float eps,
                                      const Rope& rope, const AttentionShape& shape, std::uint32_t layer) {
  step_.places().check_attention(shape, layer);
  for (const Tensor& changed : {q_gate, k, v}) memo_.forget(changed);
  const StepView& step = step_.view();
  const std::span segments = step_.places().step().segments;
  const unsigned heads = q_gate.rows == 0 ? 0 : shape.heads;
  const KvLayer at = kv_layer(shape, layer);
  reserve_attention(shape, step_.places().step());
  launch<Kernel::norm_rope_append>({k.rows, ceil_div(std::size_t{heads} + shape.kv_heads, kAppendWarps)},
                                   {.q_gate = rows_of(q_gate),
                                    .k = rows_of(k),
                                    .v = rows_of(v),
                                    .q_norm = on_card(norms.query),
                                    .k_norm = on_card(norms.key),
                                    .angles = rope_table(rope),
                                    .step = step,
                                    .layer = at,
                                    .heads = heads,
                                    .pairs = rope.pairs,
                                    .eps = eps,
                                    .padding = 0});
  if (std::ranges::none_of(segments, fills_pages)) return;
  std::size_t most = 0;
  for (const StepSegment& s : segments) most = std::max(most, most_filled(s));
  launch<Kernel::quantise_page>(
      {std::size_t{2} * shape.kv_heads * (shape.width / kBlockColumns), segments.size() * most},
      {step, at, static_cast<unsigned>(most), 0});
}

void CudaBackend::do_attend(Tensor out, Tensor q_gate, const AttentionShape& shape, std::uint32_t layer) {
  step_.places().check_attention(shape, layer);
  memo_.forget(out);
  const AttendPlan plan = reserve_attention(shape, step_.places().step());
  const AttendArgs args{.out = rows_of(out),
                        .q_gate = rows_of(q_gate),
                        .to = shape.width % kBlockColumns == 0 ? quantised_place(out) : QuantisedRows{},
                        .step = step_.view(),
                        .layer = kv_layer(shape, layer),
                        .parts = attention_.parts(),
                        .arrived = attention_.arrived(),
                        .group = shape.heads / shape.kv_heads,
                        .block_rows = plan.block_rows,
                        .scale = 1.0F / std::sqrt(static_cast<float>(shape.width)),
                        .padding = 0};
  const Grid grid{plan.tasks, plan.spans};
  const std::size_t room = attend_room_bytes(plan.tiles);
  if (plan.tiles == 1) return launch<Kernel::attend_1>(grid, args, room);
  if (plan.tiles == 2) return launch<Kernel::attend_2>(grid, args, room);
  launch<Kernel::attend_4>(grid, args, room);
}

AttendPlan CudaBackend::reserve_attention(const AttentionShape& shape, const Step& step) {
  const AttendPlan plan(shape, step.segments, context_->multiprocessors());
  attention_.reserve(*context_, *memory_, shape, plan, step.tokens.size());
  return plan;
}

}  // namespace qwen35::cuda
