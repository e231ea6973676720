// Where the pages and slots of a step lie, checked once per pass: the same for every device that keeps them under
// numbers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "backend/pools.h"
#include "backend/step.h"
#include "devices/numbered.h"

namespace qwen35 {

struct PageOwner {
  const KvPool* pool = nullptr;
  PageForm form = PageForm::kPlain;
  bool is_saved = false;  // in memory of the host that no pass reaches
};
using Pages = Numbered<PageId, PageOwner>;
struct SlotOwner {
  const StatePool* pool = nullptr;
  bool is_saved = false;
};
using Slots = Numbered<SlotId, SlotOwner>;

// Which form of a page a query reads depends on their numbers alone: plain the first page, the query's own and the one
// before it, quantised all others.
inline constexpr std::size_t kFirstQuantisedPage = 1;
inline constexpr std::size_t kNewestPlainPages = 2;
constexpr bool reads_quantised(std::size_t page, std::size_t own_page) noexcept {
  return page >= kFirstQuantisedPage && page + kNewestPlainPages <= own_page;
}

// KvPool::keeps by this rule.
bool keeps_page(KvFormat format, PageForm form, std::size_t page, std::size_t tokens, std::size_t committed) noexcept;

// The pages [first, last) that rows below `certain_end` have filled since only those below `committed` were certain:
// they are quantised now.
struct FilledPages {
  std::size_t first;
  std::size_t last;
};
FilledPages filled_pages(std::size_t committed, std::size_t certain_end) noexcept;

// What keys and values of a context take, evaluated `rows` tokens at a time: in all, of one more position, and in plain
// pages beside the quantised ones of a snapshot. plain, quantised: bytes of a page.
struct KvBytes {
  std::size_t all;
  std::size_t token;
  std::size_t window;
};
KvBytes kv_bytes(KvFormat format, std::size_t plain, std::size_t quantised, std::size_t context_tokens,
                 std::size_t rows) noexcept;

// Throw InputError for heads that cannot be kept in this format, and for more rows than a state can take back.
void check_kv_width(KvFormat format, std::size_t width);
void check_most_uncertain(std::uint32_t uncertain);

class StepPlaces {
 public:
  // Makes room for a step, so that begin() allocates nothing.
  void reserve(const Step& step);
  // Throws InputError for a page or slot that is not there, or not of the pools that the others come from.
  void begin(const Step& step, const Pages& pages, const Slots& slots);

  const Step& step() const noexcept { return step_; }
  std::span<const Pages::Place> pages() const noexcept { return pages_; }  // of the page table
  // Of a segment; null for one without pages.
  const KvPool* kv_pool(std::size_t segment) const noexcept { return kv_pools_[segment]; }
  const Slots::Place& state(std::size_t segment) const noexcept { return states_[segment]; }

  // Throw InputError where a segment has no pages or state of this shape and layer, or no hidden rows of this width.
  void check_attention(const AttentionShape& shape, std::uint32_t layer) const;
  void check_delta_net(const DeltaShape& shape, std::uint32_t layer) const;
  void check_hidden(std::size_t width) const;

 private:
  void begin_pages(std::size_t segment);

  Step step_;
  std::vector<Pages::Place> pages_;
  std::vector<const KvPool*> kv_pools_;
  std::vector<Slots::Place> states_;
};

}  // namespace qwen35
