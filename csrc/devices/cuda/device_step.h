// A step on the card: its arrays in one block of memory at one address, uploaded in one copy per pass.
#pragma once

#include <cstddef>
#include <memory>

#include "backend/step.h"
#include "devices/cuda/kernel_args.h"
#include "devices/cuda/memory.h"
#include "devices/places.h"

namespace qwen35::cuda {

class DeviceStep {
 public:
  // Makes room for a step. Waits when the room grows.
  void reserve(Context& context, Memory& memory, const Step& step);
  // Uploads it. Throws InputError as StepPlaces::begin.
  void begin(Context& context, Memory& memory, const Step& step, const Pages& pages, const Slots& slots);

  const StepView& view() const noexcept { return view_; }
  const StepPlaces& places() const noexcept { return places_; }
  std::size_t bytes() const noexcept { return bytes_; }
  // The most that steps of so many rows and entries in the page table take, of one segment.
  static std::size_t bytes_of(std::size_t rows, std::size_t pages);

 private:
  struct Layout;

  StepPlaces places_;
  Piece memory_;
  std::unique_ptr<PinnedBuffer> staged_;
  CUevent copied_ = nullptr;
  std::size_t bytes_ = 0;
  StepView view_{};

 public:
  DeviceStep() = default;
  ~DeviceStep();
  DeviceStep(const DeviceStep&) = delete;
  DeviceStep& operator=(const DeviceStep&) = delete;
};

}  // namespace qwen35::cuda
