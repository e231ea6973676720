// What a model takes of a card, and what a card has.
#pragma once

#include <span>

#include "backend/footprint.h"
#include "devices/device_kind.h"

namespace qwen35::cuda {

// Free and in all, of a card. Throws DeviceError.
DeviceMemory card_memory(unsigned number);

Footprint footprint(const ModelShape& model, std::span<const MatrixShape> weights, const Workload& work);

}  // namespace qwen35::cuda
