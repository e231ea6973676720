// How a panel lies in the card's memory: 32 rows of a weight as a stream of units, each some columns of all rows. A
// lane of a warp is a row: it reads 16 neighbouring bytes, and the warp 512. In a tensor-core fragment a thread reads
// word t of a row's 16 bytes: columns 4 t to 4 t + 3 and 16 + 4 t to 16 + 4 t + 3 of the block.
//
// The units are those of devices/panel_layout.h in another order: what is [4][32 rows][4 bytes] there is
// [32 rows][16 bytes] here. Nibbles: column 4 t + b low, column 16 + 4 t + b high in byte 4 t + b. Bytes: signed,
// columns 0 to 15 of all rows, then columns 16 to 31. Floats: 16 bytes of neighbouring columns of a row, zeros behind
// the last.
#pragma once

#include "devices/cuda/kernel_args.h"

namespace qwen35::cuda {

struct UnitLayout {
  unsigned columns;  // of a unit
  unsigned bytes;    // of a unit
  unsigned part;     // bytes of a block of 32 columns within it; 0 where the unit is one block
  unsigned codes;    // where the codes of the first block begin
  bool bytewide;
};

inline constexpr unsigned kNibblePlane = kPanelRows * 16;

constexpr UnitLayout unit_layout(Format format) {
  switch (format) {
    case Format::kQ4_0:
    case Format::kIQ4_NL:
      return {32, 576, 0, 64, false};
    case Format::kIQ4_XS:
      return {256, 4416, kNibblePlane, 320, false};
    case Format::kQ4_K:
      return {256, 4736, 576, 192, false};
    case Format::kQ5_K:
      return {256, 5760, 704, 192, false};
    case Format::kQ6_K:
      return {256, 6720, 832, 128, false};
    case Format::kQ8_0:
      return {32, 1088, 0, 64, true};
    case Format::kLevels:
      return {32, 784, 0, 256, false};
    case Format::kAffine:
      return {32, 1536, 0, 512, true};
    case Format::kF32:
      return {4, kNibblePlane, 0, 0, false};
    case Format::kF16:
    case Format::kBF16:
      break;
  }
  return {8, kNibblePlane, 0, 0, false};
}

constexpr unsigned long long panel_bytes(Format format, unsigned long long cols) {
  const UnitLayout unit = unit_layout(format);
  return (cols + unit.columns - 1) / unit.columns * unit.bytes;
}

}  // namespace qwen35::cuda
