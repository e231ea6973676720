#include "devices/fake/fake_pools.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "base/error.h"

namespace qwen35::fake {

FakePage& Memory::page(PageId id) {
  const auto found = pages.find(id);
  if (found != pages.end()) return found->second;
  throw InputError("page " + std::to_string(static_cast<std::uint32_t>(id)) + " is not in use");
}

FakePage& Memory::page_of_pass(PageId id) {
  FakePage& found = page(id);
  if (!found.is_saved) return found;
  throw Error("page " + std::to_string(static_cast<std::uint32_t>(id)) + " of a pass is not on the device");
}

FakeState& Memory::slot(SlotId id) {
  const auto found = slots.find(id);
  if (found != slots.end()) return found->second;
  throw InputError("slot " + std::to_string(static_cast<std::uint32_t>(id)) + " is not in use");
}

bool FakeKvPool::keeps(PageForm form, std::size_t page, std::size_t tokens, std::size_t committed) const noexcept {
  if (form == PageForm::kQuantised) {
    return is_quantised(spec_.format) && page >= 1 && (page + 1) * kPageTokens <= committed;
  }
  return page * kPageTokens < tokens && !(is_quantised(spec_.format) && reads_quantised(page, committed / kPageTokens));
}

PageId FakeKvPool::allocate(PageForm form) {
  memory_.record.allocate(page_bytes(form));
  const PageId id{memory_.next++};
  memory_.pages[id] = {this, form, std::vector<Token>(spec_.layers * kPageTokens, kUndefined)};
  ++memory_.record.pages;
  return id;
}

PageId FakeKvPool::allocate_saved(PageForm form) {
  const PageId id = allocate(form);
  memory_.page(id).is_saved = true;
  ++memory_.record.saved_pages;
  return id;
}

void FakeKvPool::free(PageId page) noexcept {
  const auto found = memory_.pages.find(page);
  if (found != memory_.pages.end() && found->second.is_saved) --memory_.record.saved_pages;
  memory_.record.pages -= memory_.pages.erase(page);
}

void FakeKvPool::use(PageId page) { ++memory_.page(page).uses; }
void FakeKvPool::leave(PageId page) noexcept { --memory_.page(page).uses; }

void FakeKvPool::settle() {
  for (auto& [id, page] : memory_.pages) {
    if (page.pool != this || page.is_saved || page.uses > 0) continue;
    page.is_saved = true;
    ++memory_.record.saved_pages;
  }
  for (auto& [id, page] : memory_.pages) {
    if (page.pool != this || !page.is_saved || page.uses == 0) continue;
    memory_.record.allocate(page_bytes(page.form));
    page.is_saved = false;
    --memory_.record.saved_pages;
  }
}

std::size_t FakeKvPool::saved_bytes() const {
  std::size_t bytes = 0;
  for (const auto& [id, page] : memory_.pages) {
    if (page.pool == this && page.uses == 0) bytes += page_bytes(page.form);
  }
  return bytes;
}

void FakeKvPool::copy(PageId to, PageId from) {
  FakePage &a = memory_.page(to), &b = memory_.page(from);
  if (a.form != b.form) throw InputError("a page cannot be copied into one of another form");
  a.tokens = b.tokens;
}

void FakeKvPool::upload(PageId to, const std::byte* from) {
  std::memcpy(memory_.page(to).tokens.data(), from, page_bytes(PageForm::kPlain));
}

void FakeKvPool::download(std::byte* to, PageId from, std::size_t tokens) {
  std::vector<Token> copy = memory_.page(from).tokens;
  for (std::size_t i = 0; i < copy.size(); ++i) {
    if (i % kPageTokens >= tokens) copy[i] = 0;
  }
  std::memcpy(to, copy.data(), page_bytes(PageForm::kPlain));
}

SlotId FakeStatePool::allocate() {
  memory_.record.allocate(slot_bytes());
  const SlotId id{memory_.next++};
  const std::size_t words = slot_bytes() / sizeof(std::uint32_t);
  memory_.slots[id] = {std::vector(words, static_cast<std::uint32_t>(kUndefined)), kept()};
  ++memory_.record.slots;
  return id;
}

void FakeStatePool::free(SlotId slot) noexcept { memory_.record.slots -= memory_.slots.erase(slot); }
void FakeStatePool::clear(SlotId slot) { std::ranges::fill(memory_.slot(slot).words, 0); }
void FakeStatePool::copy(SlotId to, SlotId from) { memory_.slot(to).words = memory_.slot(from).words; }

void FakeStatePool::upload(SlotId to, const std::byte* from) {
  std::memcpy(memory_.slot(to).words.data(), from, slot_bytes());
}

void FakeStatePool::download(std::byte* to, SlotId from) {
  std::memcpy(to, memory_.slot(from).words.data(), slot_bytes());
}

}  // namespace qwen35::fake
