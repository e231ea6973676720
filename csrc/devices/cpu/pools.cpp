#include "devices/cpu/pools.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "base/round_up.h"
#include "devices/cpu/kernels.h"
#include "devices/cpu/quantised_page.h"

namespace qwen35::cpu {
namespace {

std::size_t element_bytes(KvFormat format) noexcept {
  return format == KvFormat::kF32 ? sizeof(float) : sizeof(std::uint16_t);
}

// Zeros in every slot of a plain page's layer from `tokens` on.
void clear_behind(std::byte* layer, const KvSpec& spec, std::size_t tokens) noexcept {
  const std::size_t element = element_bytes(spec.format), width = spec.shape.width;
  const std::size_t head = kPageTokens * width * element, values = spec.shape.kv_heads * head;
  for (std::size_t g = 0; g < spec.shape.kv_heads; ++g) {
    for (std::size_t slot = tokens; slot < kPageTokens; ++slot) {
      std::byte* keys = layer + g * head + (slot / kKeyLanes * kKeyLanes * width + slot % kKeyLanes) * element;
      for (std::size_t a = 0; a < width; ++a) std::memset(keys + a * kKeyLanes * element, 0, element);
    }
    std::memset(layer + values + g * head + tokens * width * element, 0, (kPageTokens - tokens) * width * element);
  }
}

[[noreturn]] void fail_foreign(const char* what) {
  throw InputError(std::string(what) + " belongs to another pool of this device");
}

}  // namespace

CpuKvPool::CpuKvPool(const KvSpec& spec, Pages& pages, Pool& memory)
    : spec_(spec),
      layer_bytes_{whole_lines(2 * kPageTokens * spec.shape.kv_heads * spec.shape.width * element_bytes(spec.format)),
                   is_quantised(spec.format) ? whole_lines(QuantisedPage(spec.format, spec.shape).bytes()) : 0},
      pages_(pages),
      memory_(memory) {}

PageId CpuKvPool::allocate(PageForm form) { return pages_.add({this, form}, memory_.take(page_bytes(form))); }

Pages::Place CpuKvPool::at(PageId page) const {
  const Pages::Place place = pages_.at(page);
  if (place.owner.pool != this) fail_foreign("the page");
  return place;
}

void CpuKvPool::copy(PageId to, PageId from) {
  const Pages::Place a = at(to), b = at(from);
  if (a.owner.form != b.owner.form) throw InputError("a page cannot be copied into one of another form");
  std::memcpy(a.data, b.data, page_bytes(a.owner.form));
}

void CpuKvPool::upload(PageId to, const std::byte* from) {
  const Pages::Place place = at(to);
  std::memcpy(place.data, from, page_bytes(place.owner.form));
}

void CpuKvPool::download(std::byte* to, PageId from, std::size_t tokens) {
  const Pages::Place place = at(from);
  std::memcpy(to, place.data, page_bytes(place.owner.form));
  if (place.owner.form != PageForm::kPlain || tokens >= kPageTokens) return;
  for (std::size_t layer = 0; layer < spec_.layers; ++layer) {
    clear_behind(to + layer * layer_bytes(PageForm::kPlain), spec_, tokens);
  }
}

StateLayout::StateLayout(const DeltaShape& shape, std::size_t uncertain) noexcept : pending(pending_rows(uncertain)) {
  const std::size_t column = pending * sizeof(float);
  state = whole_lines((shape.conv_width - 1 + uncertain) * shape.channels() * sizeof(float));
  keys = state + whole_lines(shape.values() * shape.key_width * sizeof(float));
  deltas = keys + whole_lines(column * shape.key_heads * shape.key_width);
  decays = deltas + whole_lines(column * shape.values());
  bytes = decays + whole_lines(column * shape.value_heads);
}

CpuStatePool::CpuStatePool(const StateSpec& spec, Slots& slots, Pool& memory)
    : spec_(spec), layout_(spec.shape, spec.uncertain), slots_(slots), memory_(memory) {
  check_most_uncertain(spec.uncertain);
}

SlotId CpuStatePool::allocate() { return slots_.add({this}, memory_.take(slot_bytes())); }

std::byte* CpuStatePool::at(SlotId slot) const {
  const Slots::Place place = slots_.at(slot);
  if (place.owner.pool != this) fail_foreign("the slot");
  return place.data;
}

void CpuStatePool::clear(SlotId slot) { std::memset(at(slot), 0, slot_bytes()); }
void CpuStatePool::copy(SlotId to, SlotId from) { std::memcpy(at(to), at(from), slot_bytes()); }
void CpuStatePool::upload(SlotId to, const std::byte* from) { std::memcpy(at(to), from, slot_bytes()); }
void CpuStatePool::download(std::byte* to, SlotId from) { std::memcpy(to, at(from), slot_bytes()); }

}  // namespace qwen35::cpu
