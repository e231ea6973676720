#include "devices/cuda/footprint.h"

#include "backend/check.h"
#include "devices/cuda/cuda_backend.h"
#include "devices/cuda/state_pool.h"

namespace qwen35::cuda {

DeviceMemory card_memory(unsigned number) {
  const Context context(number);
  DeviceMemory memory;
  QWEN35_CUDA(cuMemGetInfo, &memory.free, &memory.total);
  return memory;
}

Footprint footprint(const ModelShape& model, std::span<const MatrixShape>, const Workload& work) {
  check::heads("footprint", model.attention, kLimits);
  const bool drafts = model.drafts(work.uncertain);
  const std::size_t state = slot_bytes(
      {static_cast<std::uint32_t>(model.delta_layers()), model.delta, work.uncertain, drafts ? model.hidden : 0});
  return {.kv = 0, .kv_token = 0, .draft_kv = 0, .state = state, .snapshot = state, .work = 0, .unused = 0};
}

}  // namespace qwen35::cuda
