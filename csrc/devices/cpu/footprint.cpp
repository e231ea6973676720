#include "devices/cpu/footprint.h"

#include <algorithm>

#include "backend/check.h"
#include "base/processors.h"
#include "base/round_up.h"
#include "devices/cpu/arena.h"
#include "devices/cpu/cpu_backend.h"
#include "devices/cpu/pools.h"
#include "devices/cpu/quantised_page.h"
#include "devices/cpu/step_work.h"

namespace qwen35::cpu {
namespace {

// Pieces of one size share blocks of huge pages: pages in two forms, slots of state, activations, convolutions.
constexpr std::size_t kPieceSizes = 5;

std::size_t work_bytes(const MatmulTable& table, const ModelShape& model, std::span<const MatrixShape> weights,
                       const Workload& work) {
  const unsigned workers = work.threads == 0 ? usable_threads() : work.threads;
  const bool quantises =
      std::ranges::any_of(weights, [](const MatrixShape& w) { return quantises_input(panel_format(w.dtype)); });
  const ProductSizes sizes{work.rows, workers, quantises, table.interleave_rows != nullptr};
  WorkBytes bytes;
  add_dense_work(bytes, model, sizes);
  if (model.moe) add_expert_work(bytes, model.hidden, *model.moe, sizes);
  add_delta_work(bytes, model.delta, workers);
  add_rope_work(bytes, model.attention, work.rows);
  add_most_attend_work(bytes, model.attention, work.rows, work.context_tokens, workers);
  return bytes.total();
}

constexpr std::size_t to_page_end(std::size_t used) { return (kHugePage - used % kHugePage) % kHugePage; }

// A block's last huge page is touched as a whole.
std::size_t unused_bytes(std::span<const MatrixShape> weights) {
  std::size_t unused = 0, used = 0, block = 0, taken = 0;
  for (const MatrixShape& weight : weights) {
    const std::size_t bytes = weight_bytes(weight);
    taken += bytes;
    if (bytes > block - used) {
      const std::size_t next = Arena::block_bytes(taken);
      if (bytes >= next) continue;  // a block of its own
      unused += to_page_end(used);
      block = next;
      used = 0;
    }
    used += bytes;
  }
  return unused + to_page_end(used) + kPieceSizes * kHugePage;
}

KvBytes kv_bytes_of(const KvSpec& spec, const Workload& work) {
  Pages none;
  Pool memory;
  const CpuKvPool pool(spec, none, memory);
  return kv_bytes(spec.format, pool.page_bytes(PageForm::kPlain), pool.page_bytes(PageForm::kQuantised),
                  work.context_tokens, work.rows);
}

}  // namespace

std::size_t weight_bytes(const MatrixShape& matrix) {
  return packed_bytes({nullptr, matrix.dtype, matrix.rows, matrix.cols}, matrix.groups);
}

Footprint footprint(const MatmulTable& table, const ModelShape& model, std::span<const MatrixShape> weights,
                    const Workload& work) {
  check::heads("footprint", model.attention, kLimits);
  KvSpec spec{static_cast<std::uint32_t>(model.attention_layers()), model.attention, work.kv, work.uncertain};
  const KvBytes kv = kv_bytes_of(spec, work);
  const bool drafts = model.drafts(work.uncertain);
  spec.layers = drafts ? 1 : 0;
  const KvBytes draft_kv = kv_bytes_of(spec, work);
  Slots none;
  Pool memory;
  const CpuStatePool states(
      {static_cast<std::uint32_t>(model.delta_layers()), model.delta, work.uncertain, drafts ? model.hidden : 0}, none,
      memory);
  return {.kv = kv.all,
          .kv_token = kv.token,
          .draft_kv = draft_kv.all,
          .state = states.slot_bytes(),
          .snapshot = states.slot_bytes() + kv.window + draft_kv.window,
          .work = work_bytes(table, model, weights, work),
          .unused = unused_bytes(weights)};
}

}  // namespace qwen35::cpu
