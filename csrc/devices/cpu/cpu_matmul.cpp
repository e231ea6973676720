// Dense products. Work is cut into (block of rows, panel) pairs: a panel streams from memory once per block of rows,
// whose quantised activations stay in the second-level cache meanwhile.
#include <algorithm>

#include "devices/cpu/cpu_backend.h"
#include "devices/cpu/host.h"
#include "devices/cpu/matmul.h"
#include "devices/cpu/step_work.h"

namespace qwen35::cpu {
namespace {

// Weights times rows that are worth waking a worker for: some ten microseconds of work. Below that one thread is as
// fast, and does not wait for one that the system has descheduled.
constexpr std::size_t kGrainProducts = 1 << 19;

// While a matrix is packed, the file's bytes are released in pieces of this size, so that file and panels are never
// both in memory.
constexpr std::size_t kConsumedBytes = std::size_t{4} << 20;

struct Panels {
  std::size_t first;
  std::size_t count;
};

// visit(first row, rows, panels) for this worker's share of blocks x panels, all panels of a block of rows in turn.
template <class Visit>
void each_block_and_panels(Workers& workers, Tensor x, std::size_t panels, Visit&& visit) {
  const std::size_t block = rows_per_block(x.cols), blocks = (x.rows + block - 1) / block;
  const std::size_t products = std::min(block, x.rows) * x.cols * kPanelRows;
  workers.each(
      blocks * panels,
      [&](std::size_t begin, std::size_t end, unsigned) {
        while (begin < end) {
          const std::size_t first = begin / panels * block, panel = begin % panels;
          const std::size_t count = std::min(end - begin, panels - panel);
          visit(first, std::min(block, x.rows - first), Panels{panel, count});
          begin += count;
        }
      },
      kGrainProducts / (products + 1) + 1);
}

}  // namespace

void add_dense_work(WorkBytes& work, const ModelShape& model, const ProductSizes& sizes) noexcept {
  constexpr std::size_t kMostProjections = 4;  // of one input: qkv, z, a and b of a DeltaNet layer
  const std::size_t join = model.mtp_layers == 0 ? 0 : 2 * model.hidden;
  for (const std::size_t cols : {model.hidden, model.delta_width(), model.query_width(), model.feed_forward, join}) {
    work.raise(WorkPart::kInput, input_bytes(sizes, sizes.rows, cols));
    work.raise(WorkPart::kTiles, tile_bytes(sizes, dense_tiles(sizes.rows), cols));
  }
  work.raise(WorkPart::kLists, list_bytes(sizes.rows, kMostProjections));
}

// Quantises x if a projection wants it, and lists its rows. Projection p's places follow at out + p * x.rows.
RowLists CpuBackend::prepare(Tensor x, std::span<const Projection> projections) {
  const MatmulTable& table = table_.matmul;
  const std::size_t n = x.rows, blocks = x.cols / kQuantisedColumns;
  RowLists rows = take_lists(work_, n, projections.size());
  const bool quantises = std::any_of(projections.begin(), projections.end(),
                                     [](const Projection& p) { return quantises_input(packed(*p.w).format()); });
  QuantisedBlock* quantised = quantises ? work_.take<QuantisedBlock>(WorkPart::kInput, n * blocks) : nullptr;
  if (quantises) quantise_tensor(workers_, table, quantised, x);
  for (std::size_t t = 0; t < n; ++t) {
    rows.quantised[t] = quantises ? quantised + t * blocks : nullptr;
    rows.exact[t] = row(x, t);
  }
  for (std::size_t p = 0; p < projections.size(); ++p) {
    const Tensor& out = projections[p].out;
    for (std::size_t t = 0; t < n; ++t) rows.out[p * n + t] = row(out, t);
  }
  if (quantises && interleaves_rows(table, n)) {
    auto* tiles = work_.take<QuantisedTile>(WorkPart::kTiles, tile_groups(n) * blocks);
    workers_.each(tile_groups(n), [&](std::size_t begin, std::size_t end, unsigned) {
      for (std::size_t g = begin; g < end; ++g) {
        const std::size_t first = g * kTileTokens;
        table.interleave_rows(tiles + g * blocks, rows.quantised + first, std::min(kTileTokens, n - first), blocks);
      }
    });
    rows.tiles = tiles;
    rows.blocks = blocks;
  }
  return rows;
}

void CpuBackend::multiply(Tensor x, std::span<const Projection> projections, bool adds) {
  if (x.rows == 0) return;
  const RowLists rows = prepare(x, projections);
  std::size_t panels = 0;
  for (const Projection& p : projections) panels += packed(*p.w).panels();
  const auto one = [&](RowLists part, std::size_t panel) {
    const Projection* p = projections.data();
    for (; panel >= packed(*p->w).panels(); ++p, part.out += rows.count) panel -= packed(*p->w).panels();
    multiply_panel(table_.matmul, packed(*p->w), panel, part, packed(*p->w).first_row(panel), adds);
  };
  each_block_and_panels(workers_, x, panels, [&](std::size_t first, std::size_t count, Panels those) {
    for (std::size_t i = 0; i < those.count; ++i) one(rows.part(first, count), those.first + i);
  });
}

std::unique_ptr<Weight> CpuBackend::pack(const MatrixView& source, std::size_t groups, const Consumed& consumed) {
  auto weight = std::make_unique<PackedWeight>(source, groups, arena_);
  quantises_ = quantises_ || quantises_input(weight->format());
  workers_.each(weight->panels(), [&](std::size_t begin, std::size_t end, unsigned) {
    std::size_t first = weight->first_row(begin);  // not yet given to `consumed`
    for (std::size_t i = begin; i < end; ++i) {
      weight->pack_panel(source, i);
      const std::size_t next = weight->first_row(i) + weight->live(i);
      const std::size_t bytes = (next - first) * source.row_bytes();
      if (consumed == nullptr || (bytes < kConsumedBytes && i + 1 < end)) continue;
      consumed(source.data + first * source.row_bytes(), bytes);
      first = next;
    }
  });
  return weight;
}

std::unique_ptr<Weight> CpuBackend::view(const Weight& w, std::size_t first, std::size_t rows) const {
  return std::make_unique<PackedWeight>(packed(w), first, rows);
}

void CpuBackend::do_embed(Tensor out, const Weight& table) {
  const Step& step = pass_.step();
  workers_.each(
      step.tokens.size(),
      [&](std::size_t begin, std::size_t end, unsigned) {
        for (std::size_t t = begin; t < end; ++t) {
          packed(table).decode_row(static_cast<std::size_t>(step.tokens[t]), row(out, t));
        }
      },
      4);
  for (const InputRow& input : step.inputs) std::copy_n(host(input.values), out.cols, row(out, input.row));
}

void CpuBackend::do_matmul(Tensor x, std::span<const Projection> projections) { multiply(x, projections, false); }

void CpuBackend::do_matmul_add(Tensor x, Tensor h, const Weight& w) {
  const Projection projection{x, &w};
  multiply(h, {&projection, 1}, true);
}

void CpuBackend::do_swiglu(Tensor out, Tensor h, const Weight& gate, const Weight& up) {
  if (h.rows == 0) return;
  const Projection projections[] = {{out, &gate}, {out, &up}};
  const RowLists rows = prepare(h, projections);
  const PackedWeight &gates = packed(gate), &ups = packed(up);
  each_block_and_panels(workers_, h, gates.panels(), [&](std::size_t first, std::size_t count, Panels those) {
    swiglu_panels(table_.matmul, {gates, those.first, ups, those.first, those.count}, rows.part(first, count),
                  gates.first_row(those.first));
  });
}

}  // namespace qwen35::cpu
