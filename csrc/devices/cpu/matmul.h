// Shared by the dense and the expert products: activations prepared once per call, and a panel times a list of rows.
#pragma once

#include <algorithm>
#include <cstddef>

#include "backend/backend.h"
#include "base/workers.h"
#include "devices/cpu/host.h"
#include "devices/cpu/isa.h"
#include "devices/cpu/matmul_kernels.h"
#include "devices/cpu/panels.h"
#include "devices/cpu/step_work.h"

namespace qwen35::cpu {

// The least number of rows for which tiles are faster than single rows.
constexpr std::size_t kLeastTileRows = 7;

// The rows of one product as lists of pointers: where each is read, and where its results go.
struct RowLists {
  const QuantisedBlock** quantised;  // null pointers when nothing reads them
  const float** exact;
  float** out;
  std::size_t count;
  const QuantisedTile* tiles = nullptr;  // the same rows interleaved, kTileTokens to a tile, when that pays
  std::size_t blocks = 0;                // tiles from one group of rows to the next

  // `first` is a multiple of kTileTokens.
  RowLists part(std::size_t first, std::size_t n) const noexcept {
    return {quantised + first,
            exact + first,
            out + first,
            n,
            tiles == nullptr ? nullptr : tiles + first / kTileTokens * blocks,
            blocks};
  }
};

// Lists of `count` rows whose results have `outs` places each.
constexpr std::size_t list_bytes(std::size_t count, std::size_t outs) noexcept {
  return (2 + outs) * count * sizeof(void*);
}
inline RowLists take_lists(Work& work, std::size_t count, std::size_t outs) {
  auto* pointers = work.take<std::byte>(WorkPart::kLists, list_bytes(count, outs));
  return {reinterpret_cast<const QuantisedBlock**>(pointers),
          reinterpret_cast<const float**>(pointers + count * sizeof(void*)),
          reinterpret_cast<float**>(pointers + 2 * count * sizeof(void*)), count};
}

constexpr std::size_t tile_groups(std::size_t rows) noexcept { return (rows + kTileTokens - 1) / kTileTokens; }

// Rows of activations that share a pass over the weights: as many as fill half of the second-level cache, in whole
// tiles, and whole tiles of the vector kernels' six rows.
constexpr std::size_t kBlockStep = 48;
constexpr std::size_t kMostBlockRows = 4 * kBlockStep;

inline std::size_t rows_per_block(std::size_t cols) noexcept {
  static const std::size_t bytes = second_level_cache_bytes() / 2;
  const std::size_t row_bytes = cols / kQuantisedColumns * sizeof(QuantisedBlock) + 1;
  return std::clamp(bytes / row_bytes / kBlockStep * kBlockStep, kBlockStep, kMostBlockRows);
}

inline bool interleaves_rows(const MatmulTable& table, std::size_t rows) noexcept {
  return table.interleave_rows != nullptr && rows >= kLeastTileRows;
}

// Of `rows` rows that are multiplied together.
constexpr std::size_t dense_tiles(std::size_t rows) noexcept { return rows < kLeastTileRows ? 0 : tile_groups(rows); }

// What quantised rows take, and groups of them interleaved.
constexpr std::size_t input_bytes(const ProductSizes& sizes, std::size_t rows, std::size_t cols) noexcept {
  return sizes.quantises ? rows * (cols / kQuantisedColumns) * sizeof(QuantisedBlock) : 0;
}
constexpr std::size_t tile_bytes(const ProductSizes& sizes, std::size_t groups, std::size_t cols) noexcept {
  return sizes.quantises && sizes.interleaves ? groups * (cols / kQuantisedColumns) * sizeof(QuantisedTile) : 0;
}

// A block of 32 columns is quantised the same by any thread, so rows are the unit of parallelism.
inline void quantise_tensor(Workers& workers, const MatmulTable& table, QuantisedBlock* out, Tensor x) {
  const std::size_t blocks = x.cols / kQuantisedColumns;
  const auto quantise = [&](std::size_t begin, std::size_t end, unsigned) {
    for (std::size_t t = begin; t < end; ++t) table.quantise_rows(out + t * blocks, row(x, t), blocks);
  };
  constexpr std::size_t kGrainBlocks = 512;  // below this, waking a worker costs more than the work
  workers.each(x.rows, quantise, kGrainBlocks / (blocks + 1) + 1);
}

// A panel of `live` rows of weights.
struct Panel {
  const std::byte* data;
  PanelFormat format;
  std::size_t cols;
  std::size_t live;
};

// rows.out[i][out_first ..] (=|+=) panel times the rows.
inline void multiply_panel(const MatmulTable& table, const Panel& panel, const RowLists& rows, std::size_t out_first,
                           bool adds) noexcept {
  auto* tile_matmul = rows.tiles == nullptr ? nullptr : table.tile_matmul[static_cast<std::size_t>(panel.format)];
  if (tile_matmul != nullptr) {
    tile_matmul({.panel = panel.data,
                 .cols = panel.cols,
                 .live = panel.live,
                 .rows = rows.count,
                 .tiles = rows.tiles,
                 .out = rows.out,
                 .out_first = out_first,
                 .adds = adds});
    return;
  }
  table.panel_matmul[static_cast<std::size_t>(panel.format)]({.panel = panel.data,
                                                              .cols = panel.cols,
                                                              .live = panel.live,
                                                              .rows = rows.count,
                                                              .quantised = rows.quantised,
                                                              .exact = rows.exact,
                                                              .out = rows.out,
                                                              .out_first = out_first,
                                                              .adds = adds,
                                                              .prefetches = table.prefetches});
}

// Panel `i` of w.
inline void multiply_panel(const MatmulTable& table, const PackedWeight& w, std::size_t i, const RowLists& rows,
                           std::size_t out_first, bool adds) noexcept {
  multiply_panel(table, Panel{w.panel(i), w.format(), w.cols(), w.live(i)}, rows, out_first, adds);
}

// Panels [gate, gate + count) and [up, up + count) of two weights.
struct PanelPairs {
  const PackedWeight& gates;
  std::size_t gate;
  const PackedWeight& ups;
  std::size_t up;
  std::size_t count;
};

// rows.out[i][out_first ..] = silu(gate panels) * up panels. Gate goes straight to its place; up waits on the stack, a
// few rows at a time, and is multiplied in while both are in cache. For a few rows all panels of gate are read before
// those of up: two long streams in place of many short ones, which the hardware is slow to recognise.
inline void swiglu_panels(const MatmulTable& table, const PanelPairs& pairs, const RowLists& rows,
                          std::size_t out_first) noexcept {
  constexpr std::size_t kRows = 12 * kTileTokens;
  alignas(64) float tile[kRows][kPanelRows];
  float* tile_rows[kRows];
  for (std::size_t i = 0; i < kRows; ++i) tile_rows[i] = tile[i];
  const std::size_t together = rows.count > kTileTokens ? 1 : pairs.count;
  const auto column = [&](std::size_t p) {
    return out_first + pairs.gates.first_row(pairs.gate + p) - pairs.gates.first_row(pairs.gate);
  };
  for (std::size_t begin = 0; begin < pairs.count; begin += together) {
    for (std::size_t first = 0; first < rows.count; first += kRows) {
      const RowLists gated = rows.part(first, std::min(kRows, rows.count - first));
      RowLists part = gated;
      part.out = tile_rows;
      for (std::size_t p = begin; p < begin + together; ++p) {
        multiply_panel(table, pairs.gates, pairs.gate + p, gated, column(p), false);
      }
      for (std::size_t p = begin; p < begin + together; ++p) {
        multiply_panel(table, pairs.ups, pairs.up + p, part, 0, false);
        for (std::size_t i = 0; i < part.count; ++i) {
          float* g = gated.out[i] + column(p);
          table.silu_multiply(g, g, tile[i], pairs.gates.live(pairs.gate + p));
        }
      }
    }
  }
}

// Of a weight that Backend has checked to be of this layout.
inline const PackedWeight& packed(const Weight& w) noexcept { return static_cast<const PackedWeight&>(w); }

}  // namespace qwen35::cpu
