#include "devices/cuda/state_pool.h"

#include <cstring>
#include <utility>

#include "base/error.h"
#include "base/round_up.h"

namespace qwen35::cuda {

StateLayout state_layout(const DeltaShape& shape, std::uint32_t uncertain) noexcept {
  StateLayout at{};
  const auto part = [&at](std::size_t floats) {
    const std::size_t begin = at.bytes;
    at.bytes += round_up(floats * sizeof(float), 256);
    return begin;
  };
  at.window_rows = shape.conv_width + uncertain;
  at.pending = uncertain;
  at.window = part(at.window_rows * shape.channels());
  const std::size_t keys = round_up(shape.key_width, kKeyGroup);
  at.state = part(shape.values() * keys);
  at.keys = part(uncertain * shape.value_heads * keys);
  at.deltas = part(uncertain * shape.values());
  at.decays = part(std::size_t{uncertain} * shape.value_heads);
  return at;
}

std::size_t slot_bytes(const StateSpec& spec) noexcept {
  return state_layout(spec.shape, spec.uncertain).bytes * spec.layers +
         hidden_rows(spec.uncertain) * spec.hidden * sizeof(float);
}

CudaStatePool::CudaStatePool(const StateSpec& spec, std::shared_ptr<Context> context, Memory& memory, Slots& slots)
    : spec_(spec),
      layout_(state_layout(spec.shape, spec.uncertain)),
      context_(*context),
      memory_(memory),
      slots_(slots) {
  check_most_uncertain(spec.uncertain);
  saved_ = std::make_shared<SavedPieces>(slot_bytes(), std::move(context), memory);
}

SlotId CudaStatePool::allocate() { return slots_.add({this}, memory_.take(slot_bytes())); }
SlotId CudaStatePool::allocate_saved() { return slots_.add({this, true}, saved_->take()); }

Slots::Place CudaStatePool::at(SlotId slot) const {
  const Slots::Place place = slots_.at(slot);
  if (place.owner.pool != this) throw InputError("the slot belongs to another pool of this device");
  return place;
}

CUdeviceptr CudaStatePool::on_card(SlotId slot) const {
  const Slots::Place place = at(slot);
  if (place.owner.is_saved) throw InputError("the slot is a snapshot's, expected a sequence's; copy it into one");
  return address(place.data);
}

void CudaStatePool::clear(SlotId slot) { context_.fill(on_card(slot), 0, slot_bytes()); }

void CudaStatePool::copy(SlotId to, SlotId from) {
  if (const Slots::Place place = at(to); place.owner.is_saved) return saved_->save(place.data, on_card(from));
  if (const Slots::Place place = at(from); place.owner.is_saved) return saved_->restore(on_card(to), place.data);
  context_.copy(on_card(to), on_card(from), slot_bytes());
}

void CudaStatePool::upload(SlotId to, const std::byte* from) {
  const Slots::Place place = at(to);
  if (!place.owner.is_saved) return context_.upload(address(place.data), from, slot_bytes());
  saved_->settle();
  std::memcpy(place.data, from, slot_bytes());
}

void CudaStatePool::download(std::byte* to, SlotId from) {
  const Slots::Place place = at(from);
  if (!place.owner.is_saved) return context_.download(to, address(place.data), slot_bytes());
  saved_->settle();
  std::memcpy(to, place.data, slot_bytes());
}

}  // namespace qwen35::cuda
