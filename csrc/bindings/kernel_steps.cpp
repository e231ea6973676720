#include "bindings/kernel_steps.h"

#include <algorithm>

#include "bindings/bindings.h"

namespace py = pybind11;

namespace qwen35 {
namespace {

StepSegment segment_of(const Range& range) {
  const auto [first, count, position] = range;
  const auto at = static_cast<std::uint32_t>(position), rows = static_cast<std::uint32_t>(count);
  return {.first = static_cast<std::uint32_t>(first),
          .count = rows,
          .position = at,
          .committed = at,
          .certain = rows,
          .state = kNoSlot,
          .format = KvFormat::kF32,
          .plain_pages = 0,
          .quantised_pages = 0};
}

std::uint32_t list_pages(StepArrays& step, const std::vector<PageId>& pages, std::size_t count) {
  const auto first = static_cast<std::uint32_t>(step.page_table.size());
  for (std::size_t p = 0; p < count; ++p) step.page_table.push_back(p < pages.size() ? pages[p] : kNoPage);
  return first;
}

}  // namespace

AttentionShape attention_shape(const Range& s) {
  const auto [heads, kv_heads, width] = s;
  return {static_cast<std::uint32_t>(heads), static_cast<std::uint32_t>(kv_heads), static_cast<std::uint32_t>(width)};
}

KvCache::KvCache(Backend& on, const std::string& format, const Range& shape, std::size_t count, std::size_t blank)
    : pool_(on.kv_pool({.layers = 1,
                        .shape = attention_shape(shape),
                        .format = to_kv_format(format),
                        .uncertain = kMostUncertain})) {
  for (std::size_t p = 0; p < count; ++p) {
    plain.push_back(p > 0 && p < blank ? plain.front() : pool_->allocate(PageForm::kPlain));
    if (is_quantised(pool_->spec().format)) quantised.push_back(pool_->allocate(PageForm::kQuantised));
  }
}

py::bytes KvCache::bytes(PageForm form, std::size_t page) const {
  std::string copy(pool_->page_bytes(form), '\0');
  const std::vector<PageId>& pages = form == PageForm::kPlain ? plain : quantised;
  pool_->download(reinterpret_cast<std::byte*>(copy.data()), pages.at(page), kPageTokens);
  return copy;
}

DeltaState::DeltaState(Backend& on, const DeltaShape& shape, std::uint32_t uncertain, std::size_t hidden, bool is_saved)
    : pool_(on.state_pool({.layers = 1, .shape = shape, .uncertain = uncertain, .hidden = hidden})),
      slot_(is_saved ? pool_->allocate_saved() : pool_->allocate()) {
  if (!is_saved) pool_->clear(slot_);
}

void DeltaState::copy_from(const DeltaState& other) {
  std::vector<std::byte> bytes(pool_->slot_bytes());
  other.pool_->download(bytes.data(), other.slot_);
  pool_->upload(slot_, bytes.data());
}

StepArrays make_step(py::ssize_t rows, const std::vector<Range>& ranges, const std::vector<KvCache*>& caches,
                     const std::vector<DeltaState*>& states, const Commits& commits) {
  StepArrays step;
  step.tokens.resize(static_cast<std::size_t>(rows));
  step.positions.resize(step.tokens.size());
  for (std::size_t i = 0; i < ranges.size(); ++i) {
    StepSegment s = segment_of(ranges[i]);
    for (std::size_t t = s.first; t < std::min<std::size_t>(s.first + s.count, step.positions.size()); ++t) {
      const auto at = static_cast<std::int32_t>(s.position + t - s.first);
      step.positions[t] = {at, at, at};
    }
    if (!commits.empty()) std::tie(s.committed, s.certain) = commits.at(i);
    if (!states.empty()) s.state = states.at(i)->slot();
    if (!caches.empty()) s.format = caches.at(i)->format();
    const std::vector<PageId> none;
    s.plain_pages = list_pages(step, caches.empty() ? none : caches.at(i)->plain, s.pages());
    if (is_quantised(s.format)) s.quantised_pages = list_pages(step, caches.at(i)->quantised, s.pages());
    step.segments.push_back(s);
  }
  return step;
}

}  // namespace qwen35
