// What one sequence remembers: pages of keys and values that grow with it and can be shared, and the fixed-size memory
// of its DeltaNet layers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "model/config.h"

namespace qwen35 {

// A page holds kPageTokens positions of every attention layer in one device allocation. Copies of the pointer pin it;
// whoever has to write into a page that others see copies it first.
struct PageBuffer {
  explicit PageBuffer(std::unique_ptr<Buffer> memory);

  const std::uint64_t id;  // never used twice in a process
  const std::unique_ptr<Buffer> buffer;
};
using Page = std::shared_ptr<PageBuffer>;

// Pages by number, and per attention layer where it lies in each; null where there is no page.
class PageTable {
 public:
  PageTable(std::size_t layers, std::size_t layer_bytes) : layer_bytes_(layer_bytes), layers_(layers) {}

  std::size_t page_bytes() const noexcept { return layer_bytes_ * layers_.size(); }
  const std::vector<Page>& pages() const noexcept { return pages_; }
  std::span<std::byte* const> layer(std::size_t attention_layer) const noexcept { return layers_[attention_layer]; }
  std::size_t bytes() const noexcept;

  void put(std::size_t index, Page page);
  void drop(std::size_t index) noexcept;
  void replace(const std::vector<Page>& pages);

 private:
  std::size_t layer_bytes_;
  std::vector<Page> pages_;
  std::vector<std::vector<std::byte*>> layers_;
};

// All pages of one moment. `packed` is empty in formats that are not packed.
struct PinnedPages {
  std::vector<Page> open;
  std::vector<Page> packed;
};

// Which pages a sequence of `tokens` tokens has in a format: those that a token to come can read.
bool has_fp16_page(KvFormat format, std::size_t page, std::size_t tokens) noexcept;
bool has_quantised_page(KvFormat format, std::size_t page, std::size_t tokens) noexcept;

class KvPages {
 public:
  KvPages(Backend& backend, const Config& config, KvFormat format);

  KvFormat format() const noexcept { return format_; }
  PinnedPages pinned() const { return {open_.pages(), packed_.pages()}; }
  std::size_t bytes() const noexcept { return open_.bytes() + packed_.bytes(); }
  std::size_t fp16_page_bytes() const noexcept { return open_.page_bytes(); }
  std::size_t quantised_page_bytes() const noexcept { return packed_.page_bytes(); }
  KvSegment segment(std::size_t attention_layer, const Segment& rows) const noexcept;

  // Positions [first, first + count) get pages that are this sequence's alone. first is at most the positions in use.
  void make_writable(Backend& backend, std::size_t first, std::size_t count);
  // Lets go of the pages that no token from position `tokens` on reads.
  void settle(std::size_t tokens) noexcept;
  void replace(const PinnedPages& pages);

 private:
  KvFormat format_;
  PageTable open_;
  PageTable packed_;
  std::size_t settled_ = 0;  // open pages below this and from kFirstQuantisedPage on are gone
};

class RecurrentState {
 public:
  RecurrentState(Backend& backend, const Config& config);  // all zero: nothing read yet

  std::size_t bytes() const noexcept { return memory_->bytes(); }
  DeltaSegment segment(std::size_t delta_layer, const Segment& rows) const noexcept;
  void copy_from(Backend& backend, const RecurrentState& other);
  std::byte* data() const noexcept { return memory_->data(); }

 private:
  std::unique_ptr<Buffer> memory_;
  // Where the parts of DeltaSegment begin in a layer's bytes; the window is at 0.
  std::size_t memory_at_, keys_at_, deltas_at_, decays_at_;
  std::size_t layer_bytes_;
};

}  // namespace qwen35
