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

void put(std::vector<Page>& pages, std::size_t number, Page page) {
  pages.resize(std::max(pages.size(), number + 1));
  pages[number] = std::move(page);
}

std::size_t held(const std::vector<Page>& pages) noexcept {
  return static_cast<std::size_t>(std::ranges::count_if(pages, [](const Page& page) { return page != nullptr; }));
}

// The first `count` pages, and the place in the table where they begin.
std::uint32_t list_pages(const std::vector<Page>& pages, std::size_t count, std::vector<PageId>& table) {
  const auto first = static_cast<std::uint32_t>(table.size());
  for (std::size_t i = 0; i < count; ++i) {
    table.push_back(i < pages.size() && pages[i] != nullptr ? pages[i]->page() : kNoPage);
  }
  return first;
}

}  // namespace

PageBuffer::PageBuffer(KvPool& pool, PageForm form)
    : pool_(pool), form_(form), page_(pool.allocate(form)), id_(next_id()) {}

std::size_t KvPages::bytes() const noexcept {
  return held(pages_.plain) * pool_.page_bytes(PageForm::kPlain) +
         held(pages_.quantised) * pool_.page_bytes(PageForm::kQuantised);
}

void KvPages::make_writable(const StepSegment& segment) {
  if (segment.count == 0 || pool_.spec().layers == 0) return;
  const std::size_t committed = segment.position + segment.certain;
  for (std::size_t i = segment.position / kPageTokens; i < segment.pages(); ++i) {
    const bool exists = i < pages_.plain.size() && pages_.plain[i] != nullptr;
    if (exists && pages_.plain[i].use_count() == 1) continue;
    auto page = std::make_shared<PageBuffer>(pool_, PageForm::kPlain);
    if (exists && i * kPageTokens < segment.position) pool_.copy(page->page(), pages_.plain[i]->page());
    put(pages_.plain, i, std::move(page));
  }
  for (std::size_t i = segment.committed / kPageTokens; i < segment.pages(); ++i) {
    if (!pool_.keeps(PageForm::kQuantised, i, segment.end(), committed)) continue;
    put(pages_.quantised, i, std::make_shared<PageBuffer>(pool_, PageForm::kQuantised));
  }
}

void KvPages::list(std::vector<PageId>& table, StepSegment& segment) const {
  segment.format = format();
  segment.plain_pages = list_pages(pages_.plain, segment.pages(), table);
  segment.quantised_pages =
      is_quantised(format()) ? list_pages(pages_.quantised, segment.pages(), table) : segment.plain_pages;
}

void KvPages::release(std::size_t committed) noexcept {
  if (released_ == committed / kPageTokens) return;
  for (std::size_t i = 0; i < std::min(pages_.plain.size(), committed / kPageTokens); ++i) {
    if (!pool_.keeps(PageForm::kPlain, i, committed, committed)) pages_.plain[i].reset();
  }
  released_ = committed / kPageTokens;
}

void KvPages::cut(std::size_t tokens) noexcept {
  const std::size_t pages = (tokens + kPageTokens - 1) / kPageTokens;
  if (pages < pages_.plain.size()) pages_.plain.resize(pages);
}

void KvPages::replace(const PinnedPages& pages) {
  pages_ = pages;
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
