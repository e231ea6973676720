// What the solver must know of a block format: its levels, and how scales and codes lie in a block.
#pragma once

#include <cstddef>

#include "quantise/gemm_kernels.h"
#include "tensor/encoders.h"
#include "tensor/tensor.h"

namespace qwen35 {

inline constexpr std::size_t kMostGroups = 16;

// The scales of one block. In group g: x = (scale * scales[g]) * level + offset * offsets[g], the products as a decoder
// rounds them. `scale` and `offset` are half precision, the rest integers.
struct BlockScales {
  float scale;
  float offset;
  float scales[kMostGroups];
  float offsets[kMostGroups];
};

// Integers that a group's scale or offset may be.
struct Steps {
  float least;
  float most;
};

struct BlockFormat {
  std::size_t block;  // columns in a block
  std::size_t group;  // columns that share a scale
  bool has_offset;
  Steps scales;  // {1, 1} where a block is one group
  Steps offsets;
  Encoder encode;
  // The nearest levels of (x - offset) * inverse for kRowTile rows, where inverse is 1 / scale, or 0.
  void (*nearest)(const float* x, const float* inverse, const float* offset, float* levels) noexcept;
  void (*read)(const std::byte* block, BlockScales& scales) noexcept;
  void (*write)(const BlockScales& scales, const float* levels, std::byte* block) noexcept;
};

// nullptr for types whose blocks are not solved for.
const BlockFormat* find_block_format(DType dtype) noexcept;

}  // namespace qwen35
