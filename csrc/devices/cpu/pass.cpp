#include "devices/cpu/pass.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/error.h"

namespace qwen35::cpu {
namespace {

Segment rows_of(const StepSegment& s) noexcept { return {s.first, s.count, s.position, s.committed, s.certain}; }

// Whether a row of the segment reads or writes page `page` in this form, or quantises from or to it.
bool needs(const StepSegment& s, PageForm form, std::size_t page) noexcept {
  const std::size_t first = s.committed / kPageTokens, last = (s.end() - 1) / kPageTokens;
  if (form == PageForm::kPlain) return !is_quantised(s.format) || page >= first || !reads_quantised(page, first);
  const bool is_filled =
      page >= std::max(first, kFirstQuantisedPage) && (page + 1) * kPageTokens <= std::size_t{s.position} + s.certain;
  return is_filled || reads_quantised(page, last);
}

// Throws InputError where more rows are or were uncertain than the pool keeps room for.
void check_uncertain(const StepSegment& s, std::uint32_t room) {
  const std::uint32_t before = s.position - s.committed, now = s.count - s.certain;
  if (std::max(before, now) <= room) return;
  throw InputError(std::to_string(std::max(before, now)) + " rows of a segment " + (before > room ? "were" : "are") +
                   " uncertain, expected at most the " + std::to_string(room) +
                   " that its pages and state were made for");
}

}  // namespace

void Pass::reserve(const Step& step) {
  places_.reserve(step.page_table.size());
  layer_pages_.reserve(step.page_table.size());
  kv_pools_.reserve(step.segments.size());
  states_.reserve(step.segments.size());
  kv_segments_.reserve(step.segments.size());
  delta_segments_.reserve(step.segments.size());
  hidden_segments_.reserve(step.segments.size());
}

void Pass::begin(const Step& step, const Pages& pages, const Slots& slots) {
  step_ = step;
  layer_.reset();
  const std::size_t count = step.segments.size();
  places_.resize(step.page_table.size());
  pages.find(step.page_table, places_, kNoPage);
  layer_pages_.assign(places_.size(), nullptr);
  kv_pools_.assign(count, nullptr);
  states_.resize(count);
  kv_segments_.resize(count);
  delta_segments_.resize(count);
  hidden_segments_.resize(count);
  for (std::size_t i = 0; i < count; ++i) {
    slots.find({&step.segments[i].state, 1}, {&states_[i], 1}, kNoSlot);
    if (states_[i].data != nullptr) check_uncertain(step.segments[i], states_[i].owner->spec().uncertain);
    begin_pages(i);
    if (kv_pools_[i] != nullptr) check_uncertain(step.segments[i], kv_pools_[i]->spec().uncertain);
  }
}

void Pass::begin_pages(std::size_t i) {
  const StepSegment& s = step_.segments[i];
  const std::size_t pages = s.pages(), quantised = is_quantised(s.format) ? pages : 0;
  const std::span all(std::as_const(layer_pages_));
  kv_segments_[i] = {rows_of(s), s.format, all.subspan(s.plain_pages, pages),
                     all.subspan(s.quantised_pages, quantised)};
  const auto check = [&](PageForm form, std::size_t at, std::size_t listed) {
    for (std::size_t page = 0; page < listed; ++page) {
      const Pages::Place& place = places_[at + page];
      if (place.data == nullptr) continue;
      const CpuKvPool*& pool = kv_pools_[i];
      if (pool == nullptr) pool = place.owner.pool;
      if (place.owner.pool != pool || place.owner.form != form || pool->spec().format != s.format) {
        throw InputError("page " + std::to_string(page) + " of a segment is not of the pool or form of the others");
      }
    }
    for (std::size_t page = 0; kv_pools_[i] != nullptr && page < listed; ++page) {
      if (places_[at + page].data != nullptr || !needs(s, form, page)) continue;
      throw InputError("positions up to " + std::to_string(s.end()) + " need page " + std::to_string(page) +
                       (form == PageForm::kPlain ? "" : " quantised") + ", which is not there");
    }
  };
  if (s.count == 0) return;
  check(PageForm::kPlain, s.plain_pages, pages);
  check(PageForm::kQuantised, s.quantised_pages, quantised);
}

std::span<const KvSegment> Pass::attention(const AttentionShape& shape, std::uint32_t layer) {
  for (std::size_t i = 0; i < step_.segments.size(); ++i) {
    const StepSegment& s = step_.segments[i];
    if (s.count == 0) continue;
    const CpuKvPool* pool = kv_pools_[i];
    if (pool == nullptr || pool->spec().shape != shape || layer >= pool->spec().layers) {
      throw InputError("a segment has no pages of this shape for attention layer " + std::to_string(layer));
    }
    if (layer_ == layer) continue;
    const auto enter = [&](std::size_t at, std::size_t count, std::size_t offset) {
      for (std::size_t p = at; p < at + count; ++p) {
        layer_pages_[p] = places_[p].data == nullptr ? nullptr : places_[p].data + offset;
      }
    };
    enter(s.plain_pages, kv_segments_[i].plain.size(), layer * pool->layer_bytes(PageForm::kPlain));
    enter(s.quantised_pages, kv_segments_[i].quantised.size(), layer * pool->layer_bytes(PageForm::kQuantised));
  }
  layer_ = layer;
  return kv_segments_;
}

std::span<const DeltaSegment> Pass::delta_net(const DeltaShape& shape, std::uint32_t layer) {
  for (std::size_t i = 0; i < step_.segments.size(); ++i) {
    const Slots::Place& place = states_[i];
    if (place.data == nullptr || place.owner->spec().shape != shape || layer >= place.owner->spec().layers) {
      throw InputError("a segment has no recurrent state of this shape for DeltaNet layer " + std::to_string(layer));
    }
    const StateLayout& at = place.owner->layout();
    const auto part = [start = place.data + layer * at.bytes](std::size_t offset) {
      return reinterpret_cast<float*>(start + offset);
    };
    delta_segments_[i] = {rows_of(step_.segments[i]),
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
  for (std::size_t i = 0; i < step_.segments.size(); ++i) {
    const Slots::Place& place = states_[i];
    if (place.data == nullptr || place.owner->spec().hidden != width) {
      throw InputError("a segment has no hidden rows of width " + std::to_string(width) + " with its recurrent state");
    }
    hidden_segments_[i] = {rows_of(step_.segments[i]), place.owner->hidden_rows(),
                           reinterpret_cast<float*>(place.data + place.owner->hidden_at())};
  }
  return hidden_segments_;
}

}  // namespace qwen35::cpu
