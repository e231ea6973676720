// Pages and slots of the CPU.
//
// A page holds its layers one behind the other. Plain, per layer: keys [G][256 / 16][A][16], then values [G][256][A]
// (reference/attend.cpp); quantised: quantised_page.h. A slot holds, per layer, what StateLayout says,
// then hidden rows where they are kept.
#pragma once

#include <cstddef>
#include <memory>

#include "backend/pools.h"
#include "base/round_up.h"
#include "devices/cpu/arena.h"
#include "devices/cpu/kernels.h"
#include "devices/places.h"

namespace qwen35::cpu {

class CpuKvPool final : public KvPool {
 public:
  // Throws InputError for heads that cannot be kept in this format.
  CpuKvPool(const KvSpec& spec, Pages& pages, Pool& memory);

  const KvSpec& spec() const noexcept override { return spec_; }
  std::size_t page_bytes(PageForm form) const noexcept override { return layer_bytes(form) * spec_.layers; }
  bool keeps(PageForm form, std::size_t page, std::size_t tokens, std::size_t committed) const noexcept override {
    return keeps_page(spec_.format, form, page, tokens, committed);
  }
  PageId allocate(PageForm form) override;
  void free(PageId page) noexcept override { pages_.remove(page); }
  void copy(PageId to, PageId from) override;
  void upload(PageId to, const std::byte* from) override;
  void download(std::byte* to, PageId from, std::size_t tokens) override;

  std::size_t layer_bytes(PageForm form) const noexcept { return layer_bytes_[static_cast<std::size_t>(form)]; }

 private:
  Pages::Place at(PageId page) const;

  KvSpec spec_;
  std::size_t layer_bytes_[2];
  Pages& pages_;
  Pool& memory_;
};

// Tokens from the start of a state's unfinished chunk on: those of the chunk, and those that may be taken back, in
// whole chunks.
constexpr std::size_t pending_rows(std::size_t uncertain) noexcept {
  return round_up(kDeltaSteps - 1 + uncertain, kDeltaSteps);
}

// Where the parts of one layer's state begin, in bytes. S stands at the start of the chunk of the committed length c;
// of every token behind that start k, d and exp(g) wait beside it, and of the window only rows from c - 3 on are kept.
// So the same chunks are added to S in the same way however tokens are cut into passes, and tokens behind c can be
// taken back by going on in their place (deferred commit, docs/architecture.md 5.3).
struct StateLayout {
  StateLayout(const DeltaShape& shape, std::size_t uncertain) noexcept;

  static constexpr std::uint32_t kVersion =
      4;  // raised whenever the bytes of a slot or a page come to mean something else

  std::size_t window = 0;  // [conv_width - 1 + uncertain, C] pre-convolution rows, oldest first
  std::size_t state;       // [Hv, Dv / 32, Dk, 32]: S[k][v] in tiles of 32 value columns
  std::size_t keys;        // [Hk, pending, Dk]: k, unit length
  std::size_t deltas;      // [Hv, Dv / 32, pending, 32]: d
  std::size_t decays;      // [Hv, pending]: exp(g)
  std::size_t pending;     // pending_rows(uncertain)
  std::size_t bytes;
};

class CpuStatePool final : public StatePool {
 public:
  CpuStatePool(const StateSpec& spec, Slots& slots, Pool& memory);

  const StateSpec& spec() const noexcept override { return spec_; }
  std::size_t slot_bytes() const noexcept override {
    return hidden_at() + hidden_rows() * spec_.hidden * sizeof(float);
  }
  SlotId allocate() override;
  void free(SlotId slot) noexcept override { slots_.remove(slot); }
  void clear(SlotId slot) override;
  void copy(SlotId to, SlotId from) override;
  void upload(SlotId to, const std::byte* from) override;
  void download(std::byte* to, SlotId from) override;

  const StateLayout& layout() const noexcept { return layout_; }
  // The ring of hidden rows lies behind the layers (HiddenSegment).
  std::size_t hidden_at() const noexcept { return layout_.bytes * spec_.layers; }
  std::size_t hidden_rows() const noexcept { return qwen35::hidden_rows(spec_.uncertain); }

 private:
  std::byte* at(SlotId slot) const;

  StateSpec spec_;
  StateLayout layout_;
  Slots& slots_;
  Pool& memory_;
};

}  // namespace qwen35::cpu
