// Products of many rows with their experts: rows are sorted by expert, and every tile of one expert's rows is a product
// on the tensor cores.
#pragma once

#include "devices/cuda/gemm.cuh"
#include "devices/cuda/moe.cuh"

namespace qwen35::cuda {

// Where a pair comes to lie among those of its expert is left to chance: no result depends on it. One block.
KERNEL(moe_sort, kSortThreads)(MoeSortArgs args) {
  await_predecessor();
  SHARED(unsigned[kMostExperts], next);
  for (unsigned e = threadIdx.x; e < args.expert_count; e += kSortThreads) next[e] = 0;
  __syncthreads();
  for (unsigned i = threadIdx.x; i < args.pairs; i += kSortThreads) atomicAdd(&next[args.experts[i]], 1u);
  __syncthreads();
  if (threadIdx.x == 0) {
    unsigned first = 0, tiles = 0;
    for (unsigned e = 0; e < args.expert_count; ++e) {
      const unsigned count = next[e];
      for (unsigned at = 0; at < count; at += kGemmTokens) {
        const unsigned left = count - at;
        args.to.tiles[tiles++] = {static_cast<int>(e), first + at, left < kGemmTokens ? left : kGemmTokens};
      }
      next[e] = first;
      first += count;
    }
    *args.to.count = tiles;
  }
  __syncthreads();
  for (unsigned i = threadIdx.x; i < args.pairs; i += kSortThreads) {
    args.to.order[atomicAdd(&next[args.experts[i]], 1u)] = static_cast<int>(i);
  }
}

// Grid: (panels of an expert / 2, tiles).
KERNEL(gemm_gather, kGemmThreads, 2)(GemmGatherArgs args) {
  await_predecessor();
  SHARED(SwigluShared, shared);
  if (blockIdx.y >= *args.order.count) return;
  const ExpertTile of = args.order.tiles[blockIdx.y];
  const TokenTile tile{args.x, args.order.order, of.first, of.count, args.top_k};
  const unsigned width = args.routed.cols;
  swiglu_tokens(shared, args.gate, expert_panel(args.gate_panels, of.expert, 0), args.up,
                expert_panel(args.up_panels, of.expert, 0), (width + kPanelRows - 1) / kPanelRows, tile);
  put_act(shared, args.routed, args.to, width, of.count, Rows{},
          [&](unsigned token) { return static_cast<unsigned>(args.order.order[of.first + token]); });
}

// Grid: (panels of x / 4, tiles).
KERNEL(gemm_combine, kGemmThreads, 2)(GemmCombineArgs args) {
  await_predecessor();
  SHARED(GemmShared, shared);
  if (blockIdx.y >= *args.order.count) return;
  const ExpertTile of = args.order.tiles[blockIdx.y];
  const TokenTile tile{args.routed, args.order.order, of.first, of.count, 1};
  const unsigned panels = (args.cols + kPanelRows - 1) / kPanelRows;
  const WarpRows mine =
      warp_rows(args.down, expert_panel(args.down_panels, of.expert, 0), panels, blockIdx.x, kGemmWarps, warp_id());
  GemmSums total;
  multiply_tokens(total, shared, args.down, mine.panel, mine.row, tile);
  if (mine.panel == nullptr) return;
  const unsigned column = mine.number * kPanelRows, left = args.cols - column;
  each_result(total, mine.row, left < kPanelRows ? left : kPanelRows, tile,
              [&](unsigned token, unsigned row, float value) {
                args.products[tile.row(token) * args.cols + column + row] = value;
              });
}

// x += the weighted products of its slots, in order. Grid: (columns / kRowThreads, rows).
KERNEL(moe_reduce, kRowThreads)(MoeReduceArgs args) {
  await_predecessor();
  const unsigned c = blockIdx.x * kRowThreads + threadIdx.x, t = blockIdx.y;
  if (c >= args.x.cols) return;
  float sum = 0.0f;
  for (unsigned i = 0; i < args.top_k; ++i) {
    const unsigned long long pair = static_cast<unsigned long long>(t) * args.top_k + i;
    sum += args.weights[pair] * args.products[pair * args.x.cols + c];
  }
  args.x.data[t * args.x.stride + c] += sum;
}

}  // namespace qwen35::cuda
