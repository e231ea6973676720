// Packed weights: 32 rows of the matrix, interleaved. A panel is a stream of units, each one block of columns of all
// 32 rows; four neighbouring columns of one row share a 32-bit lane, so that lanes are rows, results need no horizontal
// sums, and every broadcast of four activations feeds 32 rows. One stream per panel suits hardware prefetchers.
//
//   codes[j][row][b]   nibbles: column 4 j + b low, column 16 + 4 j + b high; bytes: column 4 j + b, plus 128
//
// Bytes per weight: Q4_0 and IQ4_NL 0.5625 (as in the file), IQ4_XS 0.539 (file 0.531), Q4_K 0.578 (0.5625),
// Q5_K 0.703 (0.6875), Q6_K 0.820 and Q8_0 1.0625 (as in the file), Levels 0.766, Affine 1.5, floats as in the file.
//
// This header is included by files compiled for one instruction set: types only.
#pragma once

#include <cstddef>
#include <cstdint>

#include "devices/panel_format.h"

namespace qwen35 {

using PanelNibbles = std::uint8_t[4][kPanelRows][4];
using PanelBytes = std::uint8_t[8][kPanelRows][4];
using PanelHalves = std::uint16_t[kPanelRows];

// scale * (q - 8); also scale * kIq4Values[q].
struct Panel4 {
  PanelHalves scale;
  PanelNibbles codes;
};

// (scale * scales[part]) * kIq4Values[q].
struct PanelIQ4_XS {
  PanelHalves scale;
  std::int8_t scales[8][kPanelRows];
  PanelNibbles codes[8];
};

// (scale * scales) * q - min * mins.
struct PanelQ4_K {
  struct Part {
    std::uint8_t scales[kPanelRows];
    std::uint8_t mins[kPanelRows];
    PanelNibbles codes;
  };
  PanelHalves scale;
  PanelHalves min;
  Part parts[8];
};

// As Q4_K. Bit j of high[row][b] belongs to column 4 j + b, bit 4 + j to column 16 + 4 j + b.
struct PanelQ5_K {
  struct Part {
    std::uint8_t scales[kPanelRows];
    std::uint8_t mins[kPanelRows];
    PanelNibbles codes;
    std::uint8_t high[kPanelRows][4];
  };
  PanelHalves scale;
  PanelHalves min;
  Part parts[8];
};

// (scale * scales[half]) * (q - 32), half 0 the first 16 columns. Bits 2 j of high[half][row][b]: column 16 half + 4 j
// + b.
struct PanelQ6_K {
  struct Part {
    std::int8_t scales[2][kPanelRows];
    PanelNibbles codes;
    std::uint8_t high[2][kPanelRows][4];
  };
  PanelHalves scale;
  Part parts[8];
};

// scale * q.
struct PanelQ8_0 {
  PanelHalves scale;
  PanelBytes codes;
};

// scale[half] * levels[q].
struct PanelLevels {
  float scale[2][kPanelRows];
  PanelNibbles codes;
  std::int8_t levels[16];
};

// scale[half] * q + min[half].
struct PanelAffine {
  float scale[2][kPanelRows];
  float min[2][kPanelRows];
  PanelBytes codes;
};

// One column.
struct PanelF32 {
  float values[kPanelRows];
};
struct Panel16 {  // F16 and BF16
  PanelHalves values;
};

static_assert(sizeof(Panel4) == 576 && sizeof(PanelIQ4_XS) == 4416 && sizeof(PanelQ4_K) == 4736);
static_assert(sizeof(PanelQ5_K) == 5760 && sizeof(PanelQ6_K) == 6720 && sizeof(PanelQ8_0) == 1088);
static_assert(sizeof(PanelLevels) == 784);
static_assert(sizeof(PanelAffine) == 1536 && sizeof(PanelF32) == 128 && sizeof(Panel16) == 64);

}  // namespace qwen35
