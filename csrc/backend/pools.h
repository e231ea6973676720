// Memory of a device that sequences hold by number: pages of keys and values, and slots of recurrent state. How one is
// laid out, and how many tokens the state takes up together, is the device's own affair.
//
// A pool belongs to the backend that made it and must not outlive it. Any thread may allocate and free; everything else
// belongs to whoever holds the device.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backend/shape.h"
#include "backend/step.h"

namespace qwen35 {

// A page is appended to in its plain form, element by element in fp16 (fp32 in KvFormat::kF32). In the quantised
// formats it also gets a quantised form once it is full.
enum class PageForm : std::uint8_t { kPlain, kQuantised };

struct KvSpec {
  std::uint32_t layers;
  AttentionShape shape;
  KvFormat format;
  std::uint32_t uncertain = 0;  // the most rows of a pass that may be taken back
};

// Keys and values of kPageTokens positions in every layer, per page.
class KvPool {
 public:
  virtual ~KvPool() = default;

  virtual const KvSpec& spec() const noexcept = 0;
  virtual std::size_t page_bytes(PageForm form) const noexcept = 0;
  // Whether a sequence of `tokens` tokens, of which those from `committed` on may be taken back, keeps page `page` in
  // this form: whether a token to come can read it. Depends on numbers of pages alone, so that no way of cutting a text
  // into passes changes an answer.
  virtual bool keeps(PageForm form, std::size_t page, std::size_t tokens, std::size_t committed) const noexcept = 0;

  virtual PageId allocate(PageForm form) = 0;  // contents are not defined
  // A page of a snapshot: where pages lie that nobody uses.
  virtual PageId allocate_saved(PageForm form) { return allocate(form); }
  virtual void free(PageId page) noexcept = 0;

  // Sequences use pages, one or several each; passes take no others once settle() was called. A device with memory of
  // its own keeps those that nobody uses, since they are of snapshots alone, in the host's. Any thread may leave one.
  virtual void use(PageId) {}
  virtual void leave(PageId) noexcept {}
  // Moves pages to where they belong: beside passes, behind what was enqueued before them, and those that come back
  // before the next pass. Throws OutOfMemory where they do not all find room; nothing is lost then.
  virtual void settle() {}
  // Of the pages that nobody uses, where they take the host's memory beside a device's own.
  virtual std::size_t saved_bytes() const { return 0; }

  virtual void copy(PageId to, PageId from) = 0;
  virtual void upload(PageId to, const std::byte* from) = 0;
  // The page of which `tokens` positions are in use; what lies behind them comes as zeros. Waits.
  virtual void download(std::byte* to, PageId from, std::size_t tokens) = 0;
};

struct StateSpec {
  std::uint32_t layers;
  DeltaShape shape;
  std::uint32_t uncertain = 0;
  std::size_t hidden = 0;  // D where hidden rows are kept too, for the block that drafts
};

// Hidden rows that a slot keeps: of the last certain token, of those that may be taken back, and of so many more that
// the block that drafts takes up together.
inline constexpr std::size_t kPairsTogether = 16;
constexpr std::size_t hidden_rows(std::uint32_t uncertain) noexcept { return kPairsTogether + 1 + uncertain; }

// The recurrent state of one sequence in every layer, per slot, and its last hidden_rows(uncertain) hidden rows.
class StatePool {
 public:
  virtual ~StatePool() = default;

  virtual const StateSpec& spec() const noexcept = 0;
  virtual std::size_t slot_bytes() const noexcept = 0;

  virtual SlotId allocate() = 0;  // contents are not defined
  // A slot of a snapshot, which passes do not take: it may lie in the host's memory, and copies to and from it run
  // beside passes, behind what was enqueued before them.
  virtual SlotId allocate_saved() { return allocate(); }
  virtual void free(SlotId slot) noexcept = 0;
  virtual void clear(SlotId slot) = 0;  // the state before the first token
  virtual void copy(SlotId to, SlotId from) = 0;
  virtual void upload(SlotId to, const std::byte* from) = 0;
  virtual void download(std::byte* to, SlotId from) = 0;  // waits
};

}  // namespace qwen35
