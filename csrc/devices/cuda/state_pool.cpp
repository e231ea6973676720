#include "devices/cuda/state_pool.h"

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
         (std::size_t{1} + spec.uncertain) * spec.hidden * sizeof(float);
}

CudaStatePool::CudaStatePool(const StateSpec& spec, Context& context, Memory& memory, Slots& slots)
    : spec_(spec),
      layout_(state_layout(spec.shape, spec.uncertain)),
      context_(context),
      memory_(memory),
      slots_(slots) {
  check_most_uncertain(spec.uncertain);
}

SlotId CudaStatePool::allocate() { return slots_.add(this, memory_.take(slot_bytes())); }

CUdeviceptr CudaStatePool::at(SlotId slot) const {
  const Slots::Place place = slots_.at(slot);
  if (place.owner != this) throw InputError("the slot belongs to another pool of this device");
  return address(place.data);
}

void CudaStatePool::clear(SlotId slot) { context_.fill(at(slot), 0, slot_bytes()); }
void CudaStatePool::copy(SlotId to, SlotId from) { context_.copy(at(to), at(from), slot_bytes()); }
void CudaStatePool::upload(SlotId to, const std::byte* from) { context_.upload(at(to), from, slot_bytes()); }
void CudaStatePool::download(std::byte* to, SlotId from) { context_.download(to, at(from), slot_bytes()); }

}  // namespace qwen35::cuda
