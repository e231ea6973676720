// Recurrent state on the card. A slot holds, per layer, what StateLayout says, then hidden rows where they are kept.
#pragma once

#include <cstddef>
#include <memory>

#include "backend/pools.h"
#include "devices/cuda/kernel_args.h"
#include "devices/cuda/memory.h"
#include "devices/cuda/saved_pieces.h"
#include "devices/places.h"

namespace qwen35::cuda {

// The layer's part of a slot, in bytes from its start. S stands at the committed length; of every row behind it k, d
// and the decay wait beside it, so that rows can be taken back by going on in their place (docs/architecture.md 5.3).
StateLayout state_layout(const DeltaShape& shape, std::uint32_t uncertain) noexcept;

// Raised whenever the bytes of a slot or a page come to mean something else; apart from those of other devices.
inline constexpr std::uint32_t kStateVersion = 0x1002;

// Of a slot: its layers, then the hidden rows.
std::size_t slot_bytes(const StateSpec& spec) noexcept;

class CudaStatePool final : public StatePool {
 public:
  // Throws InputError for shapes that the kernels do not take.
  CudaStatePool(const StateSpec& spec, std::shared_ptr<Context> context, Memory& memory, Slots& slots);

  const StateSpec& spec() const noexcept override { return spec_; }
  std::size_t slot_bytes() const noexcept override { return cuda::slot_bytes(spec_); }
  SlotId allocate() override;
  SlotId allocate_saved() override;
  void free(SlotId slot) noexcept override { slots_.remove(slot); }
  void clear(SlotId slot) override;
  void copy(SlotId to, SlotId from) override;
  void upload(SlotId to, const std::byte* from) override;
  void download(std::byte* to, SlotId from) override;

  const StateLayout& layout() const noexcept { return layout_; }
  // The ring of hidden rows lies behind the layers: that of position p is row p % hidden_rows().
  std::size_t hidden_at() const noexcept { return layout_.bytes * spec_.layers; }
  std::size_t hidden_rows() const noexcept { return qwen35::hidden_rows(spec_.uncertain); }

 private:
  Slots::Place at(SlotId slot) const;
  CUdeviceptr on_card(SlotId slot) const;  // throws InputError for a saved one

  StateSpec spec_;
  StateLayout layout_;
  Context& context_;
  Memory& memory_;
  Slots& slots_;
  std::shared_ptr<SavedPieces> saved_;
};

}  // namespace qwen35::cuda
