#include "devices/cpu/pass.h"

#include <utility>

namespace qwen35::cpu {
namespace {

Segment rows_of(const StepSegment& s) noexcept { return {s.first, s.count, s.position, s.committed, s.certain}; }

}  // namespace

void Pass::reserve(const Step& step) {
  places_.reserve(step);
  layer_pages_.reserve(step.page_table.size());
  kv_segments_.reserve(step.segments.size());
  delta_segments_.reserve(step.segments.size());
  hidden_segments_.reserve(step.segments.size());
}

void Pass::begin(const Step& step, const Pages& pages, const Slots& slots) {
  places_.begin(step, pages, slots);
  layer_.reset();
  const std::size_t count = step.segments.size();
  layer_pages_.assign(step.page_table.size(), nullptr);
  kv_segments_.resize(count);
  delta_segments_.resize(count);
  hidden_segments_.resize(count);
  const std::span all(std::as_const(layer_pages_));
  for (std::size_t i = 0; i < count; ++i) {
    const StepSegment& s = step.segments[i];
    kv_segments_[i] = {rows_of(s), s.format, all.subspan(s.plain_pages, s.pages()),
                       all.subspan(s.quantised_pages, is_quantised(s.format) ? s.pages() : 0)};
  }
}

std::span<const KvSegment> Pass::attention(const AttentionShape& shape, std::uint32_t layer) {
  places_.check_attention(shape, layer);
  if (layer_ == layer) return kv_segments_;
  for (std::size_t i = 0; i < kv_segments_.size(); ++i) {
    const StepSegment& s = step().segments[i];
    if (s.count == 0) continue;
    const auto* pool = static_cast<const CpuKvPool*>(places_.kv_pool(i));
    const auto enter = [&](std::size_t at, std::size_t count, std::size_t offset) {
      for (std::size_t p = at; p < at + count; ++p) {
        std::byte* const data = places_.pages()[p].data;
        layer_pages_[p] = data == nullptr ? nullptr : data + offset;
      }
    };
    enter(s.plain_pages, kv_segments_[i].plain.size(), layer * pool->layer_bytes(PageForm::kPlain));
    enter(s.quantised_pages, kv_segments_[i].quantised.size(), layer * pool->layer_bytes(PageForm::kQuantised));
  }
  layer_ = layer;
  return kv_segments_;
}

std::span<const DeltaSegment> Pass::delta_net(const DeltaShape& shape, std::uint32_t layer) {
  places_.check_delta_net(shape, layer);
  for (std::size_t i = 0; i < delta_segments_.size(); ++i) {
    const Slots::Place& place = places_.state(i);
    const StateLayout& at = static_cast<const CpuStatePool*>(place.owner.pool)->layout();
    const auto part = [start = place.data + layer * at.bytes](std::size_t offset) {
      return reinterpret_cast<float*>(start + offset);
    };
    delta_segments_[i] = {rows_of(step().segments[i]),
                          at.pending,
                          part(at.window),
                          part(at.state),
                          part(at.keys),
                          part(at.deltas),
                          part(at.decays)};
  }
  return delta_segments_;
}

std::span<const HiddenSegment> Pass::hidden(std::size_t width) {
  places_.check_hidden(width);
  for (std::size_t i = 0; i < hidden_segments_.size(); ++i) {
    const Slots::Place& place = places_.state(i);
    const auto* pool = static_cast<const CpuStatePool*>(place.owner.pool);
    hidden_segments_[i] = {rows_of(step().segments[i]), pool->hidden_rows(),
                           reinterpret_cast<float*>(place.data + pool->hidden_at())};
  }
  return hidden_segments_;
}

}  // namespace qwen35::cpu
