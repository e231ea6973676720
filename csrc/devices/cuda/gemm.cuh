// Products of many rows on the tensor cores, added in the order of matmul.cuh, so that both give the same bits.
#pragma once

#include "devices/cuda/matmul.cuh"

namespace qwen35::cuda {

inline constexpr unsigned kGemmWarps = kGemmThreads / kWarp;
inline constexpr unsigned kGemmTiles = kGemmTokens / kTileTokens;
inline constexpr unsigned kStageBlocks = 4;  // of 32 columns

struct GemmStage {
  signed char codes[kStageBlocks][2][kGemmTokens][16];  // by halves: eight tokens lie in all banks
  BlockSums sums[kGemmTokens][kStageBlocks];
};
using GemmSums = float[kGemmTiles][4];

inline constexpr unsigned kHeldTiles = 6;
inline constexpr unsigned kKeptTiles = kGemmTiles - kHeldTiles;

// Of a block of threads. The sums of ended strands of the later tiles wait here: not all fit into registers.
struct GemmShared {
  GemmStage stages[2];
  float held[kHeldTiles * 4][kGemmThreads];
};

// Which rows of the input a block of threads multiplies: kGemmTokens at most.
struct TokenTile {
  QuantisedRows x;
  const int* list;  // null: rows from `first` on; else rows list[first + i] / divisor
  unsigned first;
  unsigned count;
  unsigned divisor;

  DEVICE unsigned long long row(unsigned i) const {
    const unsigned at = first + (i < count ? i : count - 1);
    return list == nullptr ? at : static_cast<unsigned>(list[at]) / divisor;
  }
};

DEVICE void fetch_stage(GemmStage& stage, const TokenTile& tile, unsigned block, unsigned all) {
  constexpr unsigned kCopies = kStageBlocks * 2 * kGemmTokens;
  for (unsigned i = threadIdx.x; i < kCopies; i += kGemmWarps * kWarp) {
    const unsigned half = i % 2, b = i / 2 % kStageBlocks, token = i / (2 * kStageBlocks);
    const bool is_there = block + b < all;
    const unsigned long long at = tile.row(token) * all + (is_there ? block + b : 0);
    copy_async_16(stage.codes[b][half][token], tile.x.codes + at * kBlockColumns + 16 * half, is_there ? 16 : 0);
  }
  for (unsigned i = threadIdx.x; i < kStageBlocks * kGemmTokens; i += kGemmWarps * kWarp) {
    const unsigned b = i % kStageBlocks, token = i / kStageBlocks;
    const bool is_there = block + b < all;
    const BlockSums* from = tile.x.blocks + tile.row(token) * all + (is_there ? block + b : 0);
    copy_async_4(&stage.sums[token][b].scale, &from->scale, is_there ? 4 : 0);
    copy_async_4(&stage.sums[token][b].sum, &from->sum, is_there ? 4 : 0);
  }
  copy_async_commit();
}

// A strand has ended: what it summed joins the others, the first tiles' in `total`.
DEVICE void end_strand(GemmSums& total, GemmShared& shared, GemmSums& sum, bool is_first) {
  for (unsigned n = 0; n < kGemmTiles; ++n) {
    for (unsigned i = 0; i < 4; ++i) {
      float& to = n < kKeptTiles ? total[n][i] : shared.held[(n - kKeptTiles) * 4 + i][threadIdx.x];
      to = is_first ? sum[n][i] : to + sum[n][i];
      sum[n][i] = 0.0f;
    }
  }
}

// total[n][2 i + j]: rows `row` + g + 8 i of the panel times tokens 8 n + 2 t + j of the tile. All warps of the block
// call, each with its own rows; `panel` null: rows that are not there.
template <Format kFormat>
DEVICE void multiply_tokens(GemmSums& total, GemmShared& shared, const Byte* panel, unsigned row, unsigned cols,
                            const TokenTile& tile) {
  const unsigned all = cols / kBlockColumns, length = (all + kStrands - 1) / kStrands;
  const unsigned g = lane_id() / 4, t = lane_id() % 4;
  GemmSums sum = {};
  fetch_stage(shared.stages[0], tile, 0, all);
  for (unsigned start = 0, number = 0; start < all; start += kStageBlocks, ++number) {
    if (start + kStageBlocks < all) {
      fetch_stage(shared.stages[(number + 1) % 2], tile, start + kStageBlocks, all);
      copy_async_wait<1>();
    } else {
      copy_async_wait<0>();
    }
    __syncthreads();
    const GemmStage& stage = shared.stages[number % 2];
    for (unsigned b = 0; panel != nullptr && b < kStageBlocks && start + b < all; ++b) {
      const unsigned block = start + b;
      const WeightTile<kFormat> weights(panel, block, row);
      for (unsigned n = 0; n < kGemmTiles; ++n) {
        const unsigned token = n * kTileTokens;
        const unsigned x[2] = {load4(&stage.codes[b][0][token + g][4 * t]),
                               load4(&stage.codes[b][1][token + g][4 * t])};
        const BlockSums of[2] = {stage.sums[token + 2 * t][b], stage.sums[token + 2 * t + 1][b]};
        weights.multiply(sum[n], x, of);
      }
      if ((block + 1) % length == 0 || block + 1 == all) end_strand(total, shared, sum, block < length);
    }
    __syncthreads();
  }
  if (length * (kStrands - 1) >= all) end_strand(total, shared, sum, false);  // without columns, as in matmul.cuh
  for (unsigned i = 0; i < kHeldTiles * 4; ++i) total[kKeptTiles + i / 4][i % 4] = shared.held[i][threadIdx.x];
}

// Calls multiply_tokens for the run-time format, which is not one of floats.
DEVICE void multiply_tokens(GemmSums& total, GemmShared& shared, const WeightView& w, const Byte* panel, unsigned row,
                            const TokenTile& tile) {
  with_format(w.format, [&](auto tag) {
    constexpr Format kFormat = decltype(tag)::kValue;
    if constexpr (!is_float(kFormat)) multiply_tokens<kFormat>(total, shared, panel, row, w.cols, tile);
  });
}

// The panel and the 16 rows in it that warp `warp` of a block takes: two warps to a panel.
struct WarpRows {
  const Byte* panel;  // null: not there
  unsigned row;
  unsigned number;  // of the panel
};
DEVICE WarpRows warp_rows(const WeightView& w, unsigned long long first, unsigned panels, unsigned block,
                          unsigned warps, unsigned warp) {
  const unsigned number = block * (warps / 2) + warp / 2;
  const Byte* panel = number < panels ? w.panels + (first + number) * w.panel_bytes : nullptr;
  return {panel, warp % 2 * kTileRows, number};
}

DEVICE TokenTile tokens_of(const QuantisedRows& x, unsigned rows) {
  const unsigned first = blockIdx.y * kGemmTokens, left = rows - first;
  return {x, nullptr, first, left < kGemmTokens ? left : kGemmTokens, 1};
}

// Calls visit(token of the tile, row of the panel, value) for each result of this thread that is there.
template <class Visit>
DEVICE void each_result(const GemmSums& total, unsigned row, unsigned live, const TokenTile& tile, const Visit& visit) {
  const unsigned g = lane_id() / 4, t = lane_id() % 4;
  for (unsigned n = 0; n < kGemmTiles; ++n) {
    for (unsigned i = 0; i < 4; ++i) {
      const unsigned token = n * kTileTokens + 2 * t + i % 2, r = row + g + 8 * (i / 2);
      if (token < tile.count && r < live) visit(token, r, total[n][i]);
    }
  }
}

// Grid: (panels / 4, rows / kGemmTokens).
KERNEL(gemm, kGemmThreads, 2)(GemmArgs args) {
  await_predecessor();
  SHARED(GemmShared, shared);
  const WeightView& w = args.product.w;
  const TokenTile tile = tokens_of(args.quantised, args.x.rows);
  const WarpRows mine = warp_rows(w, 0, w.groups * w.group_panels, blockIdx.x, kGemmWarps, warp_id());
  GemmSums total;
  multiply_tokens(total, shared, w, mine.panel, mine.row, tile);
  if (mine.panel == nullptr) return;
  const PanelRows rows = rows_of_panel(w, mine.number);
  each_result(total, mine.row, rows.live, tile, [&](unsigned token, unsigned row, float value) {
    float& out = args.product.out[(tile.first + token) * args.product.out_stride + rows.first + row];
    out = args.adds ? out + value : value;
  });
}

inline constexpr unsigned kActColumns = kGemmWarps / 4 * kPanelRows;  // of silu(gate) up that a block makes

union SwigluShared {
  GemmShared gemm;
  float up[kGemmWarps / 2][kGemmTiles * 4][kWarp];
  float act[kGemmTokens][kActColumns + 1];  // + 1: a column of tokens lies in all banks
};

// silu(gate) up of kActColumns columns, whose first panel is blockIdx.x * 2 of `panels`, into shared.act: the lower
// warps have the gate's rows, the upper ones the same rows of up. Both are of one format.
DEVICE void swiglu_tokens(SwigluShared& shared, const WeightView& gate, unsigned long long gate_first,
                          const WeightView& up, unsigned long long up_first, unsigned panels, const TokenTile& tile) {
  constexpr unsigned kHalf = kGemmWarps / 2;
  const bool is_gate = warp_id() < kHalf;
  const unsigned warp = warp_id() % kHalf;
  const WeightView& w = is_gate ? gate : up;
  const WarpRows mine = warp_rows(w, is_gate ? gate_first : up_first, panels, blockIdx.x, kHalf, warp);
  GemmSums total;
  multiply_tokens(total, shared.gemm, gate, mine.panel, mine.row, tile);
  __syncthreads();
  for (unsigned i = 0; !is_gate && i < kGemmTiles * 4; ++i) shared.up[warp][i][lane_id()] = total[i / 4][i % 4];
  __syncthreads();
  for (unsigned i = 0; is_gate && i < kGemmTiles * 4; ++i) {
    total[i / 4][i % 4] = silu(total[i / 4][i % 4]) * shared.up[warp][i][lane_id()];
  }
  __syncthreads();
  if (is_gate && mine.panel != nullptr) {
    each_result(total, mine.row, kPanelRows, tile, [&](unsigned token, unsigned row, float value) {
      shared.act[token][warp / 2 * kPanelRows + row] = value;
    });
  }
  __syncthreads();
}

// The act of a block into memory, and its codes. `row_of(token)` is its row of `out`.
template <class RowOf>
DEVICE void put_act(const SwigluShared& shared, const Rows& out, const QuantisedRows& to, unsigned width,
                    unsigned count, const Rows& open, const RowOf& row_of) {
  for (unsigned i = warp_id(); i < count * (kActColumns / kPanelRows); i += kGemmWarps) {
    const unsigned token = i / (kActColumns / kPanelRows), part = i % (kActColumns / kPanelRows);
    const unsigned column = blockIdx.x * kActColumns + part * kPanelRows;
    if (column >= width) continue;
    const unsigned left = width - column;
    const float value = shared.act[token][part * kPanelRows + lane_id()] * openness(open, row_of(token));
    put_block(out, to, row_of(token), column, value, left < kPanelRows ? left : kPanelRows);
  }
}

// Grid: (panels / 2, rows / kGemmTokens).
KERNEL(gemm_swiglu, kGemmThreads, 2)(SwigluArgs args) {
  await_predecessor();
  SHARED(SwigluShared, shared);
  const TokenTile tile = tokens_of(args.quantised, args.x.rows);
  swiglu_tokens(shared, args.gate, 0, args.up, 0, args.gate.groups * args.gate.group_panels, tile);
  put_act(shared, args.out, args.to, args.gate.group_rows, tile.count, args.open,
          [&](unsigned token) { return tile.first + token; });
}

}  // namespace qwen35::cuda
