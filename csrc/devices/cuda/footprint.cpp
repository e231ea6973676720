#include "devices/cuda/footprint.h"

#include <algorithm>

#include "backend/check.h"
#include "base/round_up.h"
#include "devices/cuda/attention_work.h"
#include "devices/cuda/cuda_backend.h"
#include "devices/cuda/kv_pool.h"
#include "devices/cuda/staging.h"
#include "devices/cuda/state_pool.h"

namespace qwen35::cuda {
namespace {

// The driver's context on a card, the kernels and the graphs: an estimate. cuMemGetInfo tells of a card that is here.
constexpr std::size_t kProgramBytes = std::size_t{512} << 20;

// Multiprocessors of the largest card that is planned for: more of them let attention work in more parts.
constexpr unsigned kMostMultiprocessors = 192;

KvBytes kv_bytes_of(const KvSpec& spec, const Workload& work) noexcept {
  const auto page = [&](PageForm form) { return layer_bytes(spec.format, form, spec.shape) * spec.layers; };
  return kv_bytes(spec.format, page(PageForm::kPlain), page(PageForm::kQuantised), work.context_tokens, work.rows);
}

// A page of which a snapshot is taken midway is copied before more is written to it.
std::size_t own_pages(const KvBytes& kv) noexcept { return std::max(kv.window, kv.token * kPageTokens); }

std::size_t attention_bytes(const ModelShape& model, const Workload& work) {
  std::size_t most = 0;
  for (const std::size_t rows : {work.rows, std::size_t{1}}) {
    const std::size_t first = work.context_tokens - std::min(rows, work.context_tokens);
    StepSegment segment{};
    segment.count = static_cast<std::uint32_t>(work.context_tokens - first);
    segment.position = static_cast<std::uint32_t>(first);
    const AttendPlan plan(model.attention, {&segment, 1}, kMostMultiprocessors);
    most = std::max(most, attention_work_bytes(plan));
  }
  return most;
}

}  // namespace

DeviceMemory card_memory(unsigned number) {
  const Context context(number);
  DeviceMemory memory;
  QWEN35_CUDA(cuMemGetInfo, &memory.free, &memory.total);
  memory.cache = context.cache_bytes();
  return memory;
}

Footprint footprint(const ModelShape& model, std::span<const MatrixShape>, const Workload& work) {
  check::heads("footprint", model.attention, kLimits);
  KvSpec spec{static_cast<std::uint32_t>(model.attention_layers()), model.attention, work.kv, work.uncertain};
  check_kv_width(work.kv, model.attention.width);
  const KvBytes kv = kv_bytes_of(spec, work);
  const bool drafts = model.drafts(work.uncertain);
  spec.layers = drafts ? 1 : 0;
  const KvBytes draft_kv = kv_bytes_of(spec, work);
  const std::size_t state = slot_bytes(
      {static_cast<std::uint32_t>(model.delta_layers()), model.delta, work.uncertain, drafts ? model.hidden : 0});
  const std::size_t pages = 2 * ceil_div(work.context_tokens, kPageTokens);
  return {.kv = kv.all,
          .kv_token = kv.token,
          .draft_kv = draft_kv.all,
          .state = state,
          .snapshot = own_pages(kv) + own_pages(draft_kv),
          .snapshot_host = state + own_pages(kv) + own_pages(draft_kv),
          .work = product_work_bytes(model, work.rows) + DeviceStep::bytes_of(work.rows, pages) +
                  attention_bytes(model, work) + state,  // one on its way to the host
          .work_host = kStagingBytes + DeviceStep::bytes_of(work.rows, pages),
          .unused = 0,
          .program = kProgramBytes};
}

}  // namespace qwen35::cuda
