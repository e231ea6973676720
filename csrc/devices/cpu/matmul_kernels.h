// The kernels behind every matrix product: quantising activations to 8 bits, and one panel of packed weights times rows
// of activations. devices/panel_layout.h says how a panel lies in memory.
//
// Every result is a fixed sequence of operations over the columns, the same for each row of the batch and on every
// instruction set: exact integer sums inside a block of 32, then fused multiply-adds in fp32, block after block.
//
// This header is included by files compiled for one instruction set: no inline functions, no standard containers.
#pragma once

#include <cstddef>
#include <cstdint>

#include "devices/panel_format.h"

namespace qwen35::cpu {

inline constexpr std::size_t kQuantisedColumns = 32;

// 32 activations as 8-bit codes: x[i] ~ scale * codes[i], scale = max |x| / 127, ties to even. A block that holds an
// infinity or NaN has NaN for its scale, so that the damage shows in every product.
struct QuantisedBlock {
  std::int8_t codes[kQuantisedColumns];
  float scale;
  float sum;                       // scale times the sum of the codes
  std::int32_t minus_codes;        // minus the sum of the codes,
  std::int32_t minus_first_codes;  // and of the first 16
};

// out[i][0 .. live) (=|+=) panel . x[i] for i < rows. Formats of whole numbers read `quantised`, the others `exact`.
struct PanelArgs {
  const std::byte* panel;
  std::size_t cols;
  std::size_t live;  // rows of the panel that exist, 1..kPanelRows
  std::size_t rows;  // rows of activations, any number
  const QuantisedBlock* const* quantised;
  const float* const* exact;
  float* const* out;
  std::size_t out_first;  // results of row i begin at out[i] + out_first
  bool adds;
  bool prefetches;  // as in MatmulTable
};

inline constexpr std::size_t kTileTokens = 16;

// One block of up to kTileTokens quantised rows side by side; rows that are not there are zero.
struct QuantisedTile {
  std::int8_t codes[kTileTokens][kQuantisedColumns];
  float scale[kTileTokens];
  float sum[kTileTokens];          // as in QuantisedBlock,
  float half_sum[2][kTileTokens];  // and of each half of the columns
};

// panel_matmul on tiles: rows 16 g to 16 g + 15 are the cols / 32 tiles from tiles + g * cols / 32.
struct TileArgs {
  const std::byte* panel;
  std::size_t cols;
  std::size_t live;
  std::size_t rows;
  const QuantisedTile* tiles;
  float* const* out;
  std::size_t out_first;
  bool adds;
};

struct MatmulTable {
  void (*quantise_rows)(QuantisedBlock* out, const float* x, std::size_t blocks) noexcept;
  void (*panel_matmul[kPanelFormats])(const PanelArgs& args) noexcept;
  // Null where panel_matmul is as fast: the same results for many rows, by instructions that multiply tiles.
  void (*tile_matmul[kPanelFormats])(const TileArgs& args) noexcept;
  // tiles[block] <- block `block` of each row, for up to kTileTokens rows. Null without a tile_matmul.
  void (*interleave_rows)(QuantisedTile* tiles, const QuantisedBlock* const* rows, std::size_t count,
                          std::size_t blocks) noexcept;
  // Whether kernels that do little but wait for memory ask for it ahead; where the hardware alone is faster, they do
  // not.
  bool prefetches;
  // out = silu(gate) * up, elementwise. out may be gate.
  void (*silu_multiply)(float* out, const float* gate, const float* up, std::size_t count) noexcept;
};

void add_reference_matmul(MatmulTable& table) noexcept;
void add_avx2_matmul(MatmulTable& table) noexcept;
void add_avxvnni_matmul(MatmulTable& table) noexcept;
void add_avx512_matmul(MatmulTable& table) noexcept;
void add_amx_matmul(MatmulTable& table) noexcept;
void add_neon_matmul(MatmulTable& table) noexcept;
void add_neon_i8mm_matmul(MatmulTable& table) noexcept;

}  // namespace qwen35::cpu
