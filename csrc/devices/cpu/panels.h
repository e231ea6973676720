// A matrix packed into panels, and the scalar reading of a panel that the embedding and the reference kernels share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "backend/backend.h"
#include "devices/cpu/arena.h"
#include "devices/panel_layout.h"
#include "devices/panels.h"
#include "tensor/blocks.h"
#include "tensor/half.h"

namespace qwen35::cpu {

std::size_t panel_bytes(PanelFormat format, std::size_t cols) noexcept;

// Whether products with this format quantise the activations to 8 bits.
constexpr bool quantises_input(PanelFormat format) noexcept { return format < PanelFormat::kF32; }

// Of a matrix in panels. Throws FormatError for one that cannot be packed into so many groups.
std::size_t packed_bytes(const MatrixView& matrix, std::size_t groups);

class PackedWeight final : public Weight {
 public:
  static constexpr const char* kLayout = "panels of the CPU";

  // Memory for the panels of `source`, not yet packed. Throws FormatError.
  PackedWeight(const MatrixView& source, std::size_t groups, Arena& arena);
  // Rows of a matrix in one group, from the beginning of a panel on.
  PackedWeight(const PackedWeight& of, std::size_t first, std::size_t rows);

  std::size_t rows() const noexcept override { return groups_ * group_rows_; }
  std::size_t cols() const noexcept override { return cols_; }
  std::size_t bytes() const noexcept override { return panels() * panel_bytes_; }
  const char* layout() const noexcept override { return kLayout; }

  PanelFormat format() const noexcept { return format_; }
  std::size_t groups() const noexcept { return groups_; }
  std::size_t group_rows() const noexcept { return group_rows_; }
  std::size_t group_panels() const noexcept { return (group_rows_ + kPanelRows - 1) / kPanelRows; }
  std::size_t panels() const noexcept { return groups_ * group_panels(); }

  const std::byte* panel(std::size_t i) const noexcept { return memory_.get() + i * panel_bytes_; }
  // Rows of the matrix that panel i holds: [first_row(i), first_row(i) + live(i)).
  std::size_t first_row(std::size_t i) const noexcept {
    return i / group_panels() * group_rows_ + i % group_panels() * kPanelRows;
  }
  std::size_t live(std::size_t i) const noexcept {
    const std::size_t rest = group_rows_ - i % group_panels() * kPanelRows;
    return rest < kPanelRows ? rest : kPanelRows;
  }

  void pack_panel(const MatrixView& source, std::size_t i) noexcept;
  void decode_row(std::size_t row, float* out) const noexcept;  // the bits of decode() on the source's row

 private:
  PanelFormat format_;
  std::size_t groups_;
  std::size_t group_rows_;
  std::size_t cols_;
  std::size_t panel_bytes_;
  std::shared_ptr<std::byte> memory_;
};

// ---- reading, column block by column block ----------------------------------------------------------------------

// 32 columns of one row: scale[c / 16] * q[c] - min[c / 16].
struct RowCodes {
  int q[32];
  float scale[2];
  float min[2];
};

inline void read_nibbles(const PanelNibbles& codes, std::size_t row, int (&q)[32]) noexcept {
  for (std::size_t c = 0; c < 16; ++c) {
    q[c] = codes[c / 4][row][c % 4] & 15;
    q[c + 16] = codes[c / 4][row][c % 4] >> 4;
  }
}

inline void read_bytes(const PanelBytes& codes, std::size_t row, int (&q)[32]) noexcept {
  for (std::size_t c = 0; c < 32; ++c) q[c] = codes[c / 4][row][c % 4] - 128;
}

inline void set_scale(RowCodes& to, float scale, float min = 0.0f) noexcept {
  to.scale[0] = to.scale[1] = scale;
  to.min[0] = to.min[1] = min;
}

// What a format's panel is made of: Unit, the columns of one, whether there are scales per 16 and mins, and how to
// read the columns [32 part, 32 part + 32) of a unit.
template <PanelFormat kFormat>
struct PanelReader;

template <>
struct PanelReader<PanelFormat::kQ4_0> {
  using Unit = Panel4;
  static constexpr std::size_t kColumns = 32;
  static constexpr bool kHasHalves = false, kHasMins = false;
  static void read(const Unit& unit, std::size_t, std::size_t row, RowCodes& to) noexcept {
    read_nibbles(unit.codes, row, to.q);
    for (int& q : to.q) q -= 8;
    set_scale(to, half_to_float(unit.scale[row]));
  }
};

template <>
struct PanelReader<PanelFormat::kIQ4_NL> {
  using Unit = Panel4;
  static constexpr std::size_t kColumns = 32;
  static constexpr bool kHasHalves = false, kHasMins = false;
  static void read(const Unit& unit, std::size_t, std::size_t row, RowCodes& to) noexcept {
    read_nibbles(unit.codes, row, to.q);
    for (int& q : to.q) q = kIq4Values[q];
    set_scale(to, half_to_float(unit.scale[row]));
  }
};

template <>
struct PanelReader<PanelFormat::kIQ4_XS> {
  using Unit = PanelIQ4_XS;
  static constexpr std::size_t kColumns = 256;
  static constexpr bool kHasHalves = false, kHasMins = false;
  static void read(const Unit& unit, std::size_t part, std::size_t row, RowCodes& to) noexcept {
    read_nibbles(unit.codes[part], row, to.q);
    for (int& q : to.q) q = kIq4Values[q];
    set_scale(to, half_to_float(unit.scale[row]) * static_cast<float>(unit.scales[part][row]));
  }
};

template <>
struct PanelReader<PanelFormat::kQ4_K> {
  using Unit = PanelQ4_K;
  static constexpr std::size_t kColumns = 256;
  static constexpr bool kHasHalves = false, kHasMins = true;
  static void read(const Unit& unit, std::size_t part, std::size_t row, RowCodes& to) noexcept {
    const Unit::Part& p = unit.parts[part];
    read_nibbles(p.codes, row, to.q);
    set_scale(to, half_to_float(unit.scale[row]) * static_cast<float>(p.scales[row]),
              half_to_float(unit.min[row]) * static_cast<float>(p.mins[row]));
  }
};

template <>
struct PanelReader<PanelFormat::kQ5_K> {
  using Unit = PanelQ5_K;
  static constexpr std::size_t kColumns = 256;
  static constexpr bool kHasHalves = false, kHasMins = true;
  static void read(const Unit& unit, std::size_t part, std::size_t row, RowCodes& to) noexcept {
    const Unit::Part& p = unit.parts[part];
    read_nibbles(p.codes, row, to.q);
    for (std::size_t c = 0; c < 32; ++c) to.q[c] |= (p.high[row][c % 4] >> (c / 4) & 1) << 4;
    set_scale(to, half_to_float(unit.scale[row]) * static_cast<float>(p.scales[row]),
              half_to_float(unit.min[row]) * static_cast<float>(p.mins[row]));
  }
};

template <>
struct PanelReader<PanelFormat::kQ6_K> {
  using Unit = PanelQ6_K;
  static constexpr std::size_t kColumns = 256;
  static constexpr bool kHasHalves = true, kHasMins = false;
  static void read(const Unit& unit, std::size_t part, std::size_t row, RowCodes& to) noexcept {
    const Unit::Part& p = unit.parts[part];
    read_nibbles(p.codes, row, to.q);
    for (std::size_t c = 0; c < 32; ++c) {
      to.q[c] = (to.q[c] | (p.high[c / 16][row][c % 4] >> (2 * (c / 4 % 4)) & 3) << 4) - 32;
    }
    set_scale(to, 0.0f);
    for (std::size_t half = 0; half < 2; ++half) {
      to.scale[half] = half_to_float(unit.scale[row]) * static_cast<float>(p.scales[half][row]);
    }
  }
};

template <>
struct PanelReader<PanelFormat::kQ8_0> {
  using Unit = PanelQ8_0;
  static constexpr std::size_t kColumns = 32;
  static constexpr bool kHasHalves = false, kHasMins = false;
  static void read(const Unit& unit, std::size_t, std::size_t row, RowCodes& to) noexcept {
    read_bytes(unit.codes, row, to.q);
    set_scale(to, half_to_float(unit.scale[row]));
  }
};

template <>
struct PanelReader<PanelFormat::kLevels> {
  using Unit = PanelLevels;
  static constexpr std::size_t kColumns = 32;
  static constexpr bool kHasHalves = true, kHasMins = false;
  static void read(const Unit& unit, std::size_t, std::size_t row, RowCodes& to) noexcept {
    read_nibbles(unit.codes, row, to.q);
    for (int& q : to.q) q = unit.levels[q];
    set_scale(to, 0.0f);
    for (std::size_t half = 0; half < 2; ++half) to.scale[half] = unit.scale[half][row];
  }
};

template <>
struct PanelReader<PanelFormat::kAffine> {
  using Unit = PanelAffine;
  static constexpr std::size_t kColumns = 32;
  static constexpr bool kHasHalves = true, kHasMins = true;
  static void read(const Unit& unit, std::size_t, std::size_t row, RowCodes& to) noexcept {
    read_bytes(unit.codes, row, to.q);
    for (std::size_t half = 0; half < 2; ++half) {
      to.scale[half] = unit.scale[half][row];
      to.min[half] = unit.min[half][row];
    }
  }
};

// Floats: one value per unit and row.
template <>
struct PanelReader<PanelFormat::kF32> {
  using Unit = PanelF32;
  static constexpr std::size_t kColumns = 1;
  static float read(const Unit& unit, std::size_t row) noexcept { return unit.values[row]; }
};

template <>
struct PanelReader<PanelFormat::kF16> {
  using Unit = Panel16;
  static constexpr std::size_t kColumns = 1;
  static float read(const Unit& unit, std::size_t row) noexcept { return half_to_float(unit.values[row]); }
};

template <>
struct PanelReader<PanelFormat::kBF16> {
  using Unit = Panel16;
  static constexpr std::size_t kColumns = 1;
  static float read(const Unit& unit, std::size_t row) noexcept { return bf16_to_float(unit.values[row]); }
};

// Calls visit(PanelReader<format>{}) for the run-time format.
template <class Visit>
decltype(auto) with_reader(PanelFormat format, Visit&& visit) {
  switch (format) {
#define QWEN35_VISIT(name)   \
  case PanelFormat::k##name: \
    return visit(PanelReader<PanelFormat::k##name>{});
    QWEN35_PANEL_FORMATS(QWEN35_VISIT)
#undef QWEN35_VISIT
  }
  return visit(PanelReader<PanelFormat::kF32>{});  // no other value exists
}

}  // namespace qwen35::cpu
