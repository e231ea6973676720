#include "devices/places.h"

#include <algorithm>
#include <string>

#include "base/error.h"
#include "base/round_up.h"

namespace qwen35 {
namespace {

// Whether a row of the segment reads or writes page `page` in this form, or quantises from or to it.
bool needs(const StepSegment& s, PageForm form, std::size_t page) noexcept {
  const std::size_t first = s.committed / kPageTokens, last = (s.end() - 1) / kPageTokens;
  if (form == PageForm::kPlain) return !is_quantised(s.format) || page >= first || !reads_quantised(page, first);
  const FilledPages filled = filled_pages(s.committed, std::size_t{s.position} + s.certain);
  return (page >= filled.first && page < filled.last) || reads_quantised(page, last);
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

bool keeps_page(KvFormat format, PageForm form, std::size_t page, std::size_t tokens, std::size_t committed) noexcept {
  if (form == PageForm::kQuantised) {
    return is_quantised(format) && page >= kFirstQuantisedPage && (page + 1) * kPageTokens <= committed;
  }
  return page * kPageTokens < tokens && !(is_quantised(format) && reads_quantised(page, committed / kPageTokens));
}

FilledPages filled_pages(std::size_t committed, std::size_t certain_end) noexcept {
  const std::size_t first = std::max(committed / kPageTokens, kFirstQuantisedPage);
  return {first, std::max(first, certain_end / kPageTokens)};
}

// With quantised formats some pages are also kept in plain form: the first, the newest and those of the current pass.
KvBytes kv_bytes(KvFormat format, std::size_t plain, std::size_t quantised, std::size_t context_tokens,
                 std::size_t rows) noexcept {
  const std::size_t pages = ceil_div(context_tokens, kPageTokens);
  if (!is_quantised(format)) return {pages * plain, plain / kPageTokens, 0};
  constexpr std::size_t kKept = kFirstQuantisedPage + kNewestPlainPages;
  const std::size_t window = std::min(pages, kKept + ceil_div(rows, kPageTokens));
  return {pages * quantised + window * plain, quantised / kPageTokens, kKept * plain};
}

void check_kv_width(KvFormat format, std::size_t width) {
  if (!is_quantised(format) || width % 32 == 0) return;
  throw InputError("attention heads of width " + std::to_string(width) +
                   " cannot be kept in 8 or 4 bits: expected a multiple of 32; use kv f16");
}

void check_most_uncertain(std::uint32_t uncertain) {
  if (uncertain <= kMostUncertain) return;
  throw InputError(std::to_string(uncertain) + " rows that may be taken back, expected at most " +
                   std::to_string(kMostUncertain));
}

void StepPlaces::reserve(const Step& step) {
  pages_.reserve(step.page_table.size());
  kv_pools_.reserve(step.segments.size());
  states_.reserve(step.segments.size());
}

void StepPlaces::begin(const Step& step, const Pages& pages, const Slots& slots) {
  step_ = step;
  const std::size_t count = step.segments.size();
  pages_.resize(step.page_table.size());
  pages.find(step.page_table, pages_, kNoPage);
  kv_pools_.assign(count, nullptr);
  states_.resize(count);
  for (std::size_t i = 0; i < count; ++i) {
    slots.find({&step.segments[i].state, 1}, {&states_[i], 1}, kNoSlot);
    if (states_[i].owner.is_saved) {
      throw InputError("the slot of a segment is a snapshot's, expected a sequence's; copy it into one");
    }
    if (states_[i].data != nullptr) check_uncertain(step.segments[i], states_[i].owner.pool->spec().uncertain);
    begin_pages(i);
    if (kv_pools_[i] != nullptr) check_uncertain(step.segments[i], kv_pools_[i]->spec().uncertain);
  }
}

void StepPlaces::begin_pages(std::size_t i) {
  const StepSegment& s = step_.segments[i];
  const KvPool*& pool = kv_pools_[i];
  const auto check = [&](PageForm form, std::size_t at, std::size_t listed) {
    for (std::size_t page = 0; page < listed; ++page) {
      const Pages::Place& place = pages_[at + page];
      if (place.data == nullptr) continue;
      if (place.owner.is_saved) {
        throw InputError("page " + std::to_string(page) +
                         " of a segment lies where snapshots do, expected one that a sequence uses");
      }
      if (pool == nullptr) pool = place.owner.pool;
      if (place.owner.pool != pool || place.owner.form != form || pool->spec().format != s.format) {
        throw InputError("page " + std::to_string(page) + " of a segment is not of the pool or form of the others");
      }
    }
    for (std::size_t page = 0; pool != nullptr && page < listed; ++page) {
      if (pages_[at + page].data != nullptr || !needs(s, form, page)) continue;
      throw InputError("positions up to " + std::to_string(s.end()) + " need page " + std::to_string(page) +
                       (form == PageForm::kPlain ? "" : " quantised") + ", which is not there");
    }
  };
  if (s.count == 0) return;
  check(PageForm::kPlain, s.plain_pages, s.pages());
  check(PageForm::kQuantised, s.quantised_pages, is_quantised(s.format) ? s.pages() : 0);
}

void StepPlaces::check_attention(const AttentionShape& shape, std::uint32_t layer) const {
  for (std::size_t i = 0; i < step_.segments.size(); ++i) {
    if (step_.segments[i].count == 0) continue;
    const KvPool* pool = kv_pools_[i];
    if (pool == nullptr || pool->spec().shape != shape || layer >= pool->spec().layers) {
      throw InputError("a segment has no pages of this shape for attention layer " + std::to_string(layer));
    }
  }
}

void StepPlaces::check_delta_net(const DeltaShape& shape, std::uint32_t layer) const {
  for (std::size_t i = 0; i < step_.segments.size(); ++i) {
    const Slots::Place& place = states_[i];
    if (place.data == nullptr || place.owner.pool->spec().shape != shape || layer >= place.owner.pool->spec().layers) {
      throw InputError("a segment has no recurrent state of this shape for DeltaNet layer " + std::to_string(layer));
    }
  }
}

void StepPlaces::check_hidden(std::size_t width) const {
  for (std::size_t i = 0; i < step_.segments.size(); ++i) {
    const Slots::Place& place = states_[i];
    if (place.data == nullptr || place.owner.pool->spec().hidden != width) {
      throw InputError("a segment has no hidden rows of width " + std::to_string(width) + " with its recurrent state");
    }
  }
}

}  // namespace qwen35
