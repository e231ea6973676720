#include "sequence/state.h"

#include <algorithm>
#include <atomic>
#include <utility>

namespace qwen35 {
namespace {

std::uint64_t next_id() noexcept {
  static std::atomic<std::uint64_t> last = 0;
  return ++last;
}

bool exists(const std::vector<PageInUse>& pages, std::size_t number) noexcept {
  return number < pages.size() && pages[number].page() != nullptr;
}

void put(std::vector<PageInUse>& pages, std::size_t number, Page page) {
  pages.resize(std::max(pages.size(), number + 1));
  pages[number] = PageInUse(std::move(page));
}

std::vector<Page> pinned(const std::vector<PageInUse>& pages) {
  std::vector<Page> pinned;
  pinned.reserve(pages.size());
  for (const PageInUse& use : pages) pinned.push_back(use.page());
  return pinned;
}

// What both have stays in use throughout.
void replace(std::vector<PageInUse>& pages, const std::vector<Page>& by) {
  pages.resize(by.size());
  for (std::size_t i = 0; i < by.size(); ++i) {
    if (pages[i].page() != by[i]) pages[i] = PageInUse(by[i]);
  }
}

std::size_t held(const std::vector<PageInUse>& pages) noexcept {
  return static_cast<std::size_t>(
      std::ranges::count_if(pages, [](const PageInUse& use) { return use.page() != nullptr; }));
}

// The first `count` pages, and the place in the table where they begin.
std::uint32_t list_pages(const std::vector<PageInUse>& pages, std::size_t count, std::vector<PageId>& table) {
  const auto first = static_cast<std::uint32_t>(table.size());
  for (std::size_t i = 0; i < count; ++i) table.push_back(exists(pages, i) ? pages[i].page()->page() : kNoPage);
  return first;
}

}  // namespace

PageBuffer::PageBuffer(KvPool& pool, PageForm form, bool is_saved)
    : pool_(pool), form_(form), page_(is_saved ? pool.allocate_saved(form) : pool.allocate(form)), id_(next_id()) {}

PinnedPages KvPages::pinned() const {
  return {.pool = pool_, .plain = qwen35::pinned(plain_), .quantised = qwen35::pinned(quantised_)};
}

std::size_t KvPages::bytes() const noexcept {
  return held(plain_) * pool_.page_bytes(PageForm::kPlain) + held(quantised_) * pool_.page_bytes(PageForm::kQuantised);
}

void KvPages::make_writable(const StepSegment& segment) {
  if (segment.count == 0 || pool_.spec().layers == 0) return;
  pool_.settle();  // what was let go of makes room
  const std::size_t committed = segment.position + segment.certain;
  for (std::size_t i = segment.position / kPageTokens; i < segment.pages(); ++i) {
    const bool is_there = exists(plain_, i);
    if (is_there && !plain_[i].is_shared()) continue;
    auto page = std::make_shared<PageBuffer>(pool_, PageForm::kPlain);
    if (is_there && i * kPageTokens < segment.position) pool_.copy(page->page(), plain_[i].page()->page());
    put(plain_, i, std::move(page));
  }
  for (std::size_t i = segment.committed / kPageTokens; i < segment.pages(); ++i) {
    if (!pool_.keeps(PageForm::kQuantised, i, segment.end(), committed)) continue;
    put(quantised_, i, std::make_shared<PageBuffer>(pool_, PageForm::kQuantised));
  }
}

void KvPages::list(std::vector<PageId>& table, StepSegment& segment) const {
  segment.format = format();
  segment.plain_pages = list_pages(plain_, segment.pages(), table);
  segment.quantised_pages =
      is_quantised(format()) ? list_pages(quantised_, segment.pages(), table) : segment.plain_pages;
}

void KvPages::release(std::size_t committed) noexcept {
  if (released_ == committed / kPageTokens) return;
  for (std::size_t i = 0; i < std::min(plain_.size(), committed / kPageTokens); ++i) {
    if (!pool_.keeps(PageForm::kPlain, i, committed, committed)) plain_[i] = {};
  }
  released_ = committed / kPageTokens;
}

void KvPages::cut(std::size_t tokens) noexcept {
  const std::size_t pages = (tokens + kPageTokens - 1) / kPageTokens;
  if (pages < plain_.size()) plain_.resize(pages);
}

void KvPages::clear() noexcept {
  plain_.clear();
  quantised_.clear();
  released_ = 0;
}

void KvPages::replace(const PinnedPages& pages) {
  try {
    qwen35::replace(plain_, pages.plain);
    qwen35::replace(quantised_, pages.quantised);
    pool_.settle();
  } catch (...) {
    clear();
    throw;
  }
  released_ = 0;
}

RecurrentState::RecurrentState(StatePool& pool) : RecurrentState(pool, pool.allocate()) { clear(); }

RecurrentState::RecurrentState(RecurrentState&& other) noexcept
    : pool_(other.pool_), slot_(std::exchange(other.slot_, kNoSlot)) {}

RecurrentState::~RecurrentState() {
  if (slot_ != kNoSlot) pool_.free(slot_);
}

RecurrentState RecurrentState::saved(StatePool& pool, const std::byte* from) {
  RecurrentState saved(pool, pool.allocate_saved());
  pool.upload(saved.slot_, from);
  return saved;
}

RecurrentState RecurrentState::saved() const {
  RecurrentState saved(pool_, pool_.allocate_saved());
  saved.copy_from(*this);
  return saved;
}

}  // namespace qwen35
