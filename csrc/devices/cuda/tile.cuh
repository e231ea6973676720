// 16 rows of packed weights on the tensor cores: int8 x int8 to exact int32 per 32 columns, then scaled and added in
// fp32 as everywhere.
//
// Fragments as in "PTX ISA, Matrix fragments for mma.m16n8k32": with g = lane / 4 and t = lane % 4 a thread holds
// weights of rows g and g + 8, columns 4 t and 16 + 4 t on; activations of token g, the same columns; results of rows g
// and g + 8, tokens 2 t and 2 t + 1.
#pragma once

#include "devices/cuda/panels.cuh"
#include "devices/cuda/warp.cuh"

namespace qwen35::cuda {

inline constexpr unsigned kTileRows = 16;
inline constexpr unsigned kTileTokens = 8;

// 16 rows of weights times one block of 32 columns.
template <Format kFormat>
struct WeightTile {
  using P = Panel<kFormat>;
  unsigned a[4];
  Scales scales[2];  // of rows g and g + 8

  // Rows from `row` of the panel.
  DEVICE WeightTile(const Byte* panel, unsigned block, unsigned row) {
    const unsigned t = lane_id() % 4;
    for (unsigned i = 0; i < 2; ++i) {
      const unsigned r = row + lane_id() / 4 + 8 * i;
      const Words words = P::words(P::word(panel, block, r, t), t);
      a[i] = static_cast<unsigned>(words.first);
      a[2 + i] = static_cast<unsigned>(words.second);
      scales[i] = P::scales(panel, block, r);
    }
  }

  // sum[2 i + j] += rows g + 8 i times tokens 2 t + j, whose codes are x (of token g) and whose sums are `of`.
  DEVICE void multiply(float (&sum)[4], const unsigned (&x)[2], const BlockSums (&of)[2]) const {
    int first[4], second[4];
    for (unsigned i = 0; i < 4; ++i) {
      const BlockSums& sums = of[i % 2];
      first[i] = kWhole - P::kZero * (P::kHasHalves ? sums.first : sums.sum);
      second[i] = kWhole - P::kZero * (sums.sum - sums.first);
    }
    if (P::kHasHalves) {
      mma_s8_k16(first, {a[0], a[1]}, {x[0]});
      mma_s8_k16(second, {a[2], a[3]}, {x[1]});
    } else {
      mma_s8_k32(first, a, x);
    }
    for (unsigned i = 0; i < 4; ++i) {
      sum[i] = P::add(sum[i], scales[i / 2], {whole(first[i]), whole(second[i])}, of[i % 2]);
    }
  }
};

}  // namespace qwen35::cuda
