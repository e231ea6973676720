// File blocks into panels. Four codes move at a time: a 32-bit word of the file's nibbles is a 32-bit lane of the
// panel, as it is for the plain types and after a few masks and shifts for the K types.
#include <cstring>

#include "devices/panel_layout.h"
#include "devices/panels.h"
#include "tensor/blocks.h"
#include "tensor/grids.h"
#include "tensor/half.h"

namespace qwen35 {
namespace {

std::uint32_t word(const void* bytes) noexcept {
  std::uint32_t value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

void put(std::uint8_t (&lane)[4], std::uint32_t value) noexcept { std::memcpy(lane, &value, sizeof value); }

constexpr std::uint32_t kLowNibbles = 0x0f0f0f0fu;

void copy_nibbles(PanelNibbles& to, std::size_t row, const std::uint8_t* codes) noexcept {
  for (std::size_t j = 0; j < 4; ++j) put(to[j][row], word(codes + 4 * j));
}

// 32 columns whose codes are the nibbles at `shift` of 32 bytes.
void gather_nibbles(PanelNibbles& to, std::size_t row, const std::uint8_t* codes, std::size_t shift) noexcept {
  for (std::size_t j = 0; j < 4; ++j) {
    const std::uint32_t first = word(codes + 4 * j) >> shift & kLowNibbles;
    const std::uint32_t second = word(codes + 16 + 4 * j) >> shift & kLowNibbles;
    put(to[j][row], first | second << 4);
  }
}

void pack_block(Panel4& to, std::size_t row, std::uint16_t scale, const std::uint8_t* codes) noexcept {
  to.scale[row] = scale;
  copy_nibbles(to.codes, row, codes);
}

void pack_block(Panel4* to, std::size_t row, const BlockQ4_0& b) noexcept { pack_block(*to, row, b.scale, b.codes); }
void pack_block(Panel4* to, std::size_t row, const BlockIQ4_NL& b) noexcept { pack_block(*to, row, b.scale, b.codes); }

void pack_block(PanelIQ4_XS* to, std::size_t row, const BlockIQ4_XS& b) noexcept {
  to->scale[row] = b.scale;
  for (std::size_t g = 0; g < 8; ++g) {
    const int low = b.scales_low[g / 2] >> (4 * (g % 2)) & 15;
    const int top = b.scales_high >> (2 * g) & 3;
    to->scales[g][row] = static_cast<std::int8_t>((low | top << 4) - 32);
    copy_nibbles(to->codes[g], row, b.codes + 16 * g);
  }
}

template <class Panel, class Block>
void pack_scales_mins_codes(Panel& to, std::size_t row, const Block& b) noexcept {
  std::uint8_t scales[8];
  std::uint8_t mins[8];
  unpack_scales_mins(b.scales, scales, mins);
  to.scale[row] = b.scale;
  to.min[row] = b.min;
  for (std::size_t g = 0; g < 8; ++g) {
    to.parts[g].scales[row] = scales[g];
    to.parts[g].mins[row] = mins[g];
    gather_nibbles(to.parts[g].codes, row, b.codes + 32 * (g / 2), 4 * (g % 2));
  }
}

void pack_block(PanelQ4_K* to, std::size_t row, const BlockQ4_K& b) noexcept { pack_scales_mins_codes(*to, row, b); }

void pack_block(PanelQ5_K* to, std::size_t row, const BlockQ5_K& b) noexcept {
  pack_scales_mins_codes(*to, row, b);
  for (std::size_t g = 0; g < 8; ++g) {
    std::uint32_t high = 0;
    for (std::size_t j = 0; j < 8; ++j) high |= (word(b.high + 4 * j) >> g & 0x01010101u) << j;
    put(to->parts[g].high[row], high);
  }
}

void pack_block(PanelQ6_K* to, std::size_t row, const BlockQ6_K& b) noexcept {
  to->scale[row] = b.scale;
  for (std::size_t g = 0; g < 8; ++g) {
    const std::size_t half = g / 4, quarter = g % 4;  // of 128 columns, of 32
    PanelQ6_K::Part& part = to->parts[g];
    gather_nibbles(part.codes, row, b.codes + 64 * half + 32 * (quarter % 2), 4 * (quarter / 2));
    for (std::size_t i = 0; i < 2; ++i) {
      part.scales[i][row] = b.scales[2 * g + i];
      std::uint32_t high = 0;
      for (std::size_t j = 0; j < 4; ++j) {
        high |= (word(b.high + 32 * half + 16 * i + 4 * j) >> (2 * quarter) & 0x03030303u) << (2 * j);
      }
      put(part.high[i][row], high);
    }
  }
}

void pack_block(PanelQ8_0* to, std::size_t row, const BlockQ8_0& b) noexcept {
  to->scale[row] = b.scale;
  for (std::size_t j = 0; j < 8; ++j) put(to->codes[j][row], word(b.codes + 4 * j) ^ 0x80808080u);
}

// ---- the types that kAffine holds --------------------------------------------------------------------------------

void set_half(PanelAffine& to, std::size_t row, std::size_t half, float scale, float min) noexcept {
  to.scale[half][row] = scale;
  to.min[half][row] = min;
}

void set_code(PanelAffine& to, std::size_t row, std::size_t column, int q) noexcept {
  to.codes[column / 4][row][column % 4] = static_cast<std::uint8_t>(q + 128);
}

// Q4_1, Q5_0 and Q5_1: `high` may be null; `zero` is subtracted from the codes.
void pack_plain(PanelAffine& to, std::size_t row, const std::uint8_t* codes, const std::uint8_t* high, int zero,
                float scale, float min) noexcept {
  const std::uint32_t fifth = high == nullptr ? 0 : word(high);
  for (std::size_t c = 0; c < 32; ++c) {
    const int low = codes[c % 16] >> (4 * (c / 16)) & 15;
    set_code(to, row, c, (low | static_cast<int>(fifth >> c & 1) << 4) - zero);
  }
  set_half(to, row, 0, scale, min);
  set_half(to, row, 1, scale, min);
}

// The panel subtracts its mins and the file's plain types add theirs.
void pack_block(PanelAffine* to, std::size_t row, const BlockQ4_1& b) noexcept {
  pack_plain(*to, row, b.codes, nullptr, 0, half_to_float(b.scale), -half_to_float(b.min));
}
void pack_block(PanelAffine* to, std::size_t row, const BlockQ5_0& b) noexcept {
  pack_plain(*to, row, b.codes, b.high, 16, half_to_float(b.scale), 0.0f);
}
void pack_block(PanelAffine* to, std::size_t row, const BlockQ5_1& b) noexcept {
  pack_plain(*to, row, b.codes, b.high, 0, half_to_float(b.scale), -half_to_float(b.min));
}

// Two bits of column c in the 64 bytes that Q2_K and Q3_K share.
int two_bits(const std::uint8_t* codes, std::size_t c) noexcept {
  return codes[32 * (c / 128) + c % 32] >> (2 * (c / 32 % 4)) & 3;
}

void pack_block(PanelAffine* to, std::size_t row, const BlockQ2_K& b) noexcept {
  const float scale = half_to_float(b.scale), min = half_to_float(b.min);
  for (std::size_t g = 0; g < 16; ++g) {
    set_half(to[g / 2], row, g % 2, scale * static_cast<float>(b.scales[g] & 15),
             min * static_cast<float>(b.scales[g] >> 4));
  }
  for (std::size_t c = 0; c < kSuperBlock; ++c) set_code(to[c / 32], row, c % 32, two_bits(b.codes, c));
}

// ---- the types that kLevels holds --------------------------------------------------------------------------------

void pack_group(PanelLevels& to, std::size_t row, const GridGroup& group) noexcept {
  for (std::size_t half = 0; half < 2; ++half) to.scale[half][row] = group.scale[half];
  for (std::size_t c = 0; c < 16; ++c) {
    to.codes[c / 4][row][c % 4] = static_cast<std::uint8_t>(group.codes[c] | group.codes[c + 16] << 4);
  }
  std::memcpy(to.levels, group.levels, sizeof to.levels);
}

template <class Block>
void pack_block(PanelLevels* to, std::size_t row, const Block& b) noexcept {
  constexpr std::size_t kGroups = std::is_same_v<Block, BlockMXFP4> ? 1 : kSuperBlock / kBlock;
  for (std::size_t g = 0; g < kGroups; ++g) pack_group(to[g], row, read_group(b, g));
}

constexpr std::int8_t kLevelsQ3[16] = {-4, -3, -2, -1, 0, 1, 2, 3};

void pack_block(PanelLevels* to, std::size_t row, const BlockQ3_K& b) noexcept {
  GridGroup group{.codes = {}, .scale = {}, .levels = kLevelsQ3};
  for (std::size_t g = 0; g < 8; ++g) {
    for (std::size_t half = 0; half < 2; ++half) {
      const std::size_t s = 2 * g + half;
      const int low = b.scales[s % 8] >> (s < 8 ? 0 : 4) & 15;
      const int top = b.scales[8 + s % 4] >> (2 * (s / 4)) & 3;
      group.scale[half] = half_to_float(b.scale) * static_cast<float>((low | top << 4) - 32);
    }
    for (std::size_t c = 0; c < 32; ++c) {
      group.codes[c] = static_cast<std::uint8_t>(two_bits(b.codes, 32 * g + c) | (b.high[c] >> g & 1) << 2);
    }
    pack_group(to[g], row, group);
  }
}

// ---- rows --------------------------------------------------------------------------------------------------------

template <class Block, class Panel, std::size_t kValues = kBlock>
void pack_blocks(const std::byte* source, std::byte* panel, std::size_t row, std::size_t cols) noexcept {
  constexpr bool kIsPlain = std::is_same_v<Panel, PanelAffine> || std::is_same_v<Panel, PanelLevels>;
  constexpr std::size_t kUnits = kIsPlain ? kValues / 32 : 1;
  auto* units = reinterpret_cast<Panel*>(panel);
  for (std::size_t i = 0; i < cols / kValues; ++i) {
    Block block;  // file blocks are not aligned
    std::memcpy(&block, source + i * sizeof block, sizeof block);
    pack_block(units + i * kUnits, row, block);
  }
}

template <class Panel>
void pack_values(const std::byte* source, std::byte* panel, std::size_t row, std::size_t cols) noexcept {
  auto* units = reinterpret_cast<Panel*>(panel);
  constexpr std::size_t kBytes = sizeof units->values[0];
  for (std::size_t c = 0; c < cols; ++c) std::memcpy(&units[c].values[row], source + c * kBytes, kBytes);
}

using PackRow = void (*)(const std::byte*, std::byte*, std::size_t, std::size_t) noexcept;

PackRow row_packer(DType dtype) noexcept {
  switch (dtype) {
    case DType::kQ4_0:
      return pack_blocks<BlockQ4_0, Panel4>;
    case DType::kIQ4_NL:
      return pack_blocks<BlockIQ4_NL, Panel4>;
    case DType::kIQ4_XS:
      return pack_blocks<BlockIQ4_XS, PanelIQ4_XS, kSuperBlock>;
    case DType::kQ4_K:
      return pack_blocks<BlockQ4_K, PanelQ4_K, kSuperBlock>;
    case DType::kQ5_K:
      return pack_blocks<BlockQ5_K, PanelQ5_K, kSuperBlock>;
    case DType::kQ6_K:
      return pack_blocks<BlockQ6_K, PanelQ6_K, kSuperBlock>;
    case DType::kQ8_0:
      return pack_blocks<BlockQ8_0, PanelQ8_0>;
    case DType::kQ4_1:
      return pack_blocks<BlockQ4_1, PanelAffine>;
    case DType::kQ5_0:
      return pack_blocks<BlockQ5_0, PanelAffine>;
    case DType::kQ5_1:
      return pack_blocks<BlockQ5_1, PanelAffine>;
    case DType::kQ2_K:
      return pack_blocks<BlockQ2_K, PanelAffine, kSuperBlock>;
    case DType::kQ3_K:
      return pack_blocks<BlockQ3_K, PanelLevels, kSuperBlock>;
    case DType::kIQ2_XXS:
      return pack_blocks<BlockIQ2_XXS, PanelLevels, kSuperBlock>;
    case DType::kIQ2_XS:
      return pack_blocks<BlockIQ2_XS, PanelLevels, kSuperBlock>;
    case DType::kIQ2_S:
      return pack_blocks<BlockIQ2_S, PanelLevels, kSuperBlock>;
    case DType::kIQ3_XXS:
      return pack_blocks<BlockIQ3_XXS, PanelLevels, kSuperBlock>;
    case DType::kIQ3_S:
      return pack_blocks<BlockIQ3_S, PanelLevels, kSuperBlock>;
    case DType::kMXFP4:
      return pack_blocks<BlockMXFP4, PanelLevels>;
    case DType::kF32:
      return pack_values<PanelF32>;
    case DType::kF16:
    case DType::kBF16:
      break;
  }
  return pack_values<Panel16>;
}

}  // namespace

void pack_row(std::byte* panel, std::size_t row, DType dtype, const std::byte* source, std::size_t cols) noexcept {
  row_packer(dtype)(source, panel, row, cols);
}

}  // namespace qwen35
