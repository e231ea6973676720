// Attention layers.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>

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

template <class T>
bool is_same(const T& a, const T& b) noexcept {
  static_assert(std::has_unique_object_representations_v<T>);
  return std::memcmp(&a, &b, sizeof a) == 0;
}

}  // namespace

std::unique_ptr<KvPool> CudaBackend::kv_pool(const KvSpec& spec) {
  return std::make_unique<CudaKvPool>(spec, context_, *memory_, pages_);
}

void CudaBackend::do_norm_rope_append(Tensor q_gate, Tensor k, Tensor v, const HeadNorms& norms, float eps,
                                      const Rope& rope, const AttentionShape& shape, std::uint32_t layer) {
  step_.places().check_attention(shape, layer);
  for (const Tensor& changed : {q_gate, k, v}) memo_.forget(changed);
  const std::span segments = step_.places().step().segments;
  const auto& [time, height, width] = rope.sections;
  const AppendArgs args{.q_gate = rows_of(q_gate),
                        .heads = {.k = rows_of(k),
                                  .v = rows_of(v),
                                  .q_norm = on_card(norms.query),
                                  .k_norm = on_card(norms.key),
                                  .inv_freq = on_card(rope.inv_freq),
                                  .pairs = rope.pairs,
                                  .sections = {time, height, width},
                                  .magnitude = rope.magnitude,
                                  .eps = eps},
                        .step = step_.view(),
                        .layer = kv_layer(shape, layer),
                        .query_heads = q_gate.rows == 0 ? 0 : shape.heads,
                        .padding = 0};
  launch<Kernel::norm_rope_append>({k.rows, ceil_div(args.query_heads + args.layer.kv_heads, kAppendWarps)}, args);
  if (std::ranges::none_of(segments, fills_pages)) return;
  std::size_t most = 0;
  for (const StepSegment& s : segments) most = std::max(most, most_filled(s));
  launch<Kernel::quantise_page>(
      {std::size_t{2} * shape.kv_heads * (shape.width / kBlockColumns), segments.size() * most},
      {args.step, args.layer, static_cast<unsigned>(most), 0});
}

// What attend does of norm_rope_append: all of it, where that is the last kernel of the list, for the same queries, and
// segments have one row each. k.data null: nothing.
NewHeads CudaBackend::take_append(const Rows& q_gate, const KvLayer& layer) {
  settle_norm();
  const auto append = context_->last_recorded<Kernel::norm_rope_append>();
  const auto is_long = [](const StepSegment& s) { return s.count > 1; };
  if (!append || append->query_heads == 0 || !is_same(append->q_gate, q_gate) || !is_same(append->layer, layer) ||
      std::ranges::any_of(step_.places().step().segments, is_long)) {
    return {};
  }
  context_->take_back();
  return append->heads;
}

void CudaBackend::do_attend(Tensor out, Tensor q_gate, const AttentionShape& shape, std::uint32_t layer) {
  step_.places().check_attention(shape, layer);
  memo_.forget(out);
  const AttendPlan plan = reserve_attention(shape, step_.places().step());
  const KvLayer at = kv_layer(shape, layer);
  const AttendArgs args{.out = rows_of(out),
                        .q_gate = rows_of(q_gate),
                        .append = take_append(rows_of(q_gate), at),
                        .to = shape.width % kBlockColumns == 0 ? quantised_place(out) : QuantisedRows{},
                        .step = step_.view(),
                        .layer = at,
                        .parts = attention_.parts(),
                        .arrived = attention_.arrived(),
                        .group = shape.heads / shape.kv_heads,
                        .block_rows = plan.block_rows,
                        .scale = 1.0F / std::sqrt(static_cast<float>(shape.width)),
                        .padding = 0};
  const Grid grid{plan.tasks, plan.spans};
  const std::size_t room = attend_room_bytes(plan.tiles) + (args.append.k.data == nullptr ? 0 : kHeadRoomBytes);
  if (plan.tiles == 1) return launch<Kernel::attend_1>(grid, args, room);
  if (plan.tiles == 2) return launch<Kernel::attend_2>(grid, args, room);
  launch<Kernel::attend_4>(grid, args, room);
}

AttendPlan CudaBackend::reserve_attention(const AttentionShape& shape, const Step& step) {
  const AttendPlan plan(shape, step.segments, context_->multiprocessors());
  attention_.reserve(*context_, *memory_, plan);
  return plan;
}

}  // namespace qwen35::cuda
