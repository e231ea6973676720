// Pages and slots of a fake device: the tokens themselves where other devices keep what they compute of them. Contents
// that are not defined are kUndefined, and a number is never used twice, so that whatever is read too early or too late
// is seen.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "backend/pools.h"
#include "devices/fake/record.h"

namespace qwen35::fake {

inline constexpr Token kUndefined = -1;
inline constexpr std::size_t kMostHistory = 4096;  // tokens of a sequence that a slot can hold

class FakeKvPool;

struct FakePage {
  const FakeKvPool* pool;
  PageForm form;
  std::vector<Token> tokens;  // [layers, kPageTokens]
  bool is_saved = false;      // elsewhere, where no pass finds it
  unsigned uses = 0;

  Token& at(std::uint32_t layer, std::size_t slot) { return tokens[layer * kPageTokens + slot]; }
};

// Per layer: how many tokens it has taken up for good, how many in all, and the tokens. Then the ring of hidden rows, a
// token and its position each.
struct FakeState {
  std::vector<std::uint32_t> words;  // [layers, 2 + kMostHistory] and [kept, 2]
  std::size_t kept = 0;

  std::span<std::uint32_t> layer(std::uint32_t i) {
    return std::span(words).subspan(i * (2 + kMostHistory), 2 + kMostHistory);
  }
  std::span<std::uint32_t, 2> hidden(std::size_t position) {
    return std::span(words).last(2 * kept).subspan(2 * (position % kept)).first<2>();
  }
};

struct Memory {
  Record& record;
  std::map<PageId, FakePage> pages;
  std::map<SlotId, FakeState> slots;
  std::uint32_t next = 0;

  FakePage& page(PageId id);  // throw InputError for a number that is not in use
  FakePage& page_of_pass(PageId id);
  FakeState& slot(SlotId id);
};

class FakeKvPool final : public KvPool {
 public:
  FakeKvPool(const KvSpec& spec, Memory& memory) : spec_(spec), memory_(memory) {}

  const KvSpec& spec() const noexcept override { return spec_; }
  std::size_t page_bytes(PageForm) const noexcept override { return spec_.layers * kPageTokens * sizeof(Token); }
  bool keeps(PageForm form, std::size_t page, std::size_t tokens, std::size_t committed) const noexcept override;
  PageId allocate(PageForm form) override;
  PageId allocate_saved(PageForm form) override;
  void free(PageId page) noexcept override;
  void use(PageId page) override;
  void leave(PageId page) noexcept override;
  void settle() override;
  std::size_t saved_bytes() const override;
  void copy(PageId to, PageId from) override;
  void upload(PageId to, const std::byte* from) override;
  void download(std::byte* to, PageId from, std::size_t tokens) override;

 private:
  KvSpec spec_;
  Memory& memory_;
};

class FakeStatePool final : public StatePool {
 public:
  FakeStatePool(const StateSpec& spec, Memory& memory) : spec_(spec), memory_(memory) {}

  const StateSpec& spec() const noexcept override { return spec_; }
  std::size_t slot_bytes() const noexcept override {
    return (spec_.layers * (2 + kMostHistory) + 2 * kept()) * sizeof(std::uint32_t);
  }
  SlotId allocate() override;
  void free(SlotId slot) noexcept override;
  void clear(SlotId slot) override;
  void copy(SlotId to, SlotId from) override;
  void upload(SlotId to, const std::byte* from) override;
  void download(std::byte* to, SlotId from) override;

 private:
  std::size_t kept() const noexcept { return spec_.hidden == 0 ? 0 : hidden_rows(spec_.uncertain); }

  StateSpec spec_;
  Memory& memory_;
};

// As on the CPU: plain the first page, a query's own and the one before it, quantised all others.
constexpr bool reads_quantised(std::size_t page, std::size_t own_page) noexcept {
  return page >= 1 && page + 2 <= own_page;
}

}  // namespace qwen35::fake
