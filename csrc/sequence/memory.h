// What one sequence remembers: pages of keys and values that grow with it and can be shared, and the fixed-size memory
// of its DeltaNet layers.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "model/config.h"

namespace qwen35 {

// A page holds kPageTokens positions of every attention layer in one device allocation. Copies of the pointer pin it;
// whoever has to write into a page that others see copies it first.
using Page = std::shared_ptr<Buffer>;

class KvPages {
 public:
  KvPages(Backend& backend, const Config& config, KvFormat format);

  KvFormat format() const noexcept { return format_; }
  const std::vector<Page>& pages() const noexcept { return pages_; }
  std::size_t bytes() const noexcept { return pages_.size() * layer_bytes_ * tables_.size(); }
  std::span<std::byte* const> layer(std::size_t attention_layer) const noexcept { return tables_[attention_layer]; }

  // Positions [first, first + count) get pages that are this sequence's alone. first is at most the positions in use.
  void make_writable(Backend& backend, std::size_t first, std::size_t count);
  void cut(std::size_t tokens);
  void replace(const std::vector<Page>& pages);

 private:
  void put(std::size_t index, Page page);

  KvFormat format_;
  std::size_t layer_bytes_;
  std::vector<Page> pages_;
  std::vector<std::vector<std::byte*>> tables_;  // per layer, where it lies in each page
};

class DeltaMemory {
 public:
  DeltaMemory(Backend& backend, const Config& config);  // all zero: nothing read yet

  std::size_t bytes() const noexcept { return memory_->bytes(); }
  DeltaSegment segment(std::size_t delta_layer, const Segment& rows) const noexcept;
  void copy_from(Backend& backend, const DeltaMemory& other);

 private:
  std::unique_ptr<Buffer> memory_;
  // Where the parts of DeltaSegment begin in a layer's bytes; the window is at 0.
  std::size_t memory_at_, keys_at_, deltas_at_, decays_at_;
  std::size_t layer_bytes_;
};

}  // namespace qwen35
