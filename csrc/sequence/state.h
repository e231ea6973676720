// What one sequence keeps: pages of keys and values that grow with it and can be shared, of the attention layers and of
// the block that drafts, and the fixed-size recurrent state of its DeltaNet layers. All lie in pools of the device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "backend/pools.h"
#include "backend/step.h"

namespace qwen35 {

// A page of a pool, freed with the last pointer to it. A sequence that has to write into a page others hold copies it
// first.
class PageBuffer {
 public:
  PageBuffer(KvPool& pool, PageForm form, bool is_saved = false);
  ~PageBuffer() { pool_.free(page_); }
  PageBuffer(const PageBuffer&) = delete;
  PageBuffer& operator=(const PageBuffer&) = delete;

  std::uint64_t id() const noexcept { return id_; }  // never used twice in a process
  PageId page() const noexcept { return page_; }
  KvPool& pool() const noexcept { return pool_; }
  PageForm form() const noexcept { return form_; }
  std::size_t bytes() const noexcept { return pool_.page_bytes(form_); }

 private:
  KvPool& pool_;
  const PageForm form_;
  const PageId page_;
  const std::uint64_t id_;
};
using Page = std::shared_ptr<PageBuffer>;

// A page as a sequence holds it: passes may take it meanwhile.
class PageInUse {
 public:
  PageInUse() = default;
  explicit PageInUse(Page page) : page_(std::move(page)) {
    if (page_ != nullptr) page_->pool().use(page_->page());
  }
  PageInUse(PageInUse&& other) noexcept = default;
  PageInUse& operator=(PageInUse&& other) noexcept {
    std::swap(page_, other.page_);
    return *this;
  }
  ~PageInUse() {
    if (page_ != nullptr) page_->pool().leave(page_->page());
  }

  const Page& page() const noexcept { return page_; }
  bool is_shared() const noexcept { return page_.use_count() > 1; }

 private:
  Page page_;
};

// All pages of one moment, by number; null where there is none. `quantised` is empty in the plain formats.
struct PinnedPages {
  KvPool& pool;
  std::vector<Page> plain = {};
  std::vector<Page> quantised = {};
};

// The pages that a sequence uses.
class KvPages {
 public:
  explicit KvPages(KvPool& pool) : pool_(pool) {}

  KvFormat format() const noexcept { return pool_.spec().format; }
  PinnedPages pinned() const;
  std::size_t bytes() const noexcept;

  // The positions of the segment get pages that are this sequence's alone, and pages that its certain rows fill their
  // quantised form. segment.position is at most the positions in use.
  void make_writable(const StepSegment& segment);
  // Puts the pages that the segment reads and writes into the page table of a step.
  void list(std::vector<PageId>& table, StepSegment& segment) const;
  // Lets go of the pages that no token from position `committed` on reads.
  void release(std::size_t committed) noexcept;
  // Lets go of the pages behind the first `tokens` positions.
  void cut(std::size_t tokens) noexcept;
  void clear() noexcept;
  // Throws OutOfMemory where some of them find no room on the device; there are none then.
  void replace(const PinnedPages& pages);

 private:
  KvPool& pool_;
  std::vector<PageInUse> plain_;
  std::vector<PageInUse> quantised_;
  std::size_t released_ = 0;  // committed / kPageTokens of the last release()
};

// A slot of a pool, freed with it.
class RecurrentState {
 public:
  explicit RecurrentState(StatePool& pool);  // nothing read yet
  // A snapshot's, of such bytes.
  static RecurrentState saved(StatePool& pool, const std::byte* from);
  RecurrentState(RecurrentState&& other) noexcept;
  RecurrentState& operator=(RecurrentState&&) = delete;
  ~RecurrentState();

  SlotId slot() const noexcept { return slot_; }
  std::size_t bytes() const noexcept { return pool_.slot_bytes(); }
  void clear() { pool_.clear(slot_); }
  RecurrentState saved() const;  // a copy for a snapshot, to copy from
  void copy_from(const RecurrentState& other) { pool_.copy(slot_, other.slot_); }
  void download(std::byte* to) const { pool_.download(to, slot_); }

 private:
  RecurrentState(StatePool& pool, SlotId slot) noexcept : pool_(pool), slot_(slot) {}

  StatePool& pool_;
  SlotId slot_;
};

}  // namespace qwen35
