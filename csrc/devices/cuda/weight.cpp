#include "devices/cuda/weight.h"

#include <cstring>
#include <string>

#include "base/error.h"
#include "devices/cuda/packed_panels.h"
#include "devices/panels.h"

namespace qwen35::cuda {
namespace {

static_assert(static_cast<unsigned>(Format::kBF16) == static_cast<unsigned>(PanelFormat::kBF16));
static_assert(kPanelRows == qwen35::kPanelRows);

Format format_of(DType dtype) noexcept { return static_cast<Format>(panel_format(dtype)); }

WeightView layout_of(const MatrixView& source, std::size_t groups) {
  check_panels(source, groups);
  const Format format = format_of(source.dtype);
  const std::size_t group_rows = source.rows / groups;
  return {.panels = nullptr,
          .panel_bytes = panel_bytes(format, source.cols),
          .format = format,
          .cols = static_cast<unsigned>(source.cols),
          .group_rows = static_cast<unsigned>(group_rows),
          .group_panels = static_cast<unsigned>((group_rows + kPanelRows - 1) / kPanelRows),
          .groups = static_cast<unsigned>(groups),
          .padding = 0};
}

std::size_t bytes_of(const WeightView& view) noexcept {
  return std::size_t{view.groups} * view.group_panels * view.panel_bytes;
}

// [words][rows][4 bytes] to [rows][words][4 bytes], 4 words a row.
void turn_codes(std::byte* codes) noexcept {
  constexpr std::size_t kWords = 4;
  std::uint32_t from[kWords][kPanelRows], to[kPanelRows][kWords];
  std::memcpy(from, codes, sizeof from);
  for (std::size_t j = 0; j < kWords; ++j) {
    for (std::size_t row = 0; row < kPanelRows; ++row) to[row][j] = from[j][row];
  }
  std::memcpy(codes, to, sizeof to);
}

void make_signed(std::byte* codes) noexcept {
  for (std::size_t i = 0; i < kNibblePlane; ++i) codes[i] ^= std::byte{0x80};
}

// From the order of devices/panel_layout.h, in place.
void turn_panel(std::byte* panel, Format format, std::size_t cols) noexcept {
  const UnitLayout unit = unit_layout(format);
  const std::size_t blocks = unit.columns / kBlockColumns;
  for (std::size_t u = 0; u < (cols + unit.columns - 1) / unit.columns; ++u, panel += unit.bytes) {
    for (std::size_t block = 0; block < blocks; ++block) {
      std::byte* codes = panel + unit.codes + block * unit.part;
      turn_codes(codes);
      if (!unit.bytewide) continue;
      turn_codes(codes + kNibblePlane);
      make_signed(codes);
      make_signed(codes + kNibblePlane);
    }
  }
}

// A row of floats: 16 bytes at a time.
void pack_floats(std::byte* panel, std::size_t row, const std::byte* source, std::size_t bytes) noexcept {
  for (std::size_t at = 0; at < bytes; at += 16) {
    std::memcpy(panel + at / 16 * kNibblePlane + row * 16, source + at, bytes - at < 16 ? bytes - at : 16);
  }
}

}  // namespace

CudaWeight::CudaWeight(const MatrixView& source, std::size_t groups, Memory& memory)
    : view_(layout_of(source, groups)), memory_(memory.take(bytes_of(view_))) {
  view_.panels = reinterpret_cast<const Byte*>(memory_.get());
}

static_assert(kViewedRows % kPanelRows == 0);

CudaWeight::CudaWeight(const CudaWeight& of, std::size_t first, std::size_t rows) : view_(of.view_) {
  view_.panels += first / kPanelRows * std::size_t{view_.panel_bytes};
  view_.group_rows = static_cast<unsigned>(rows);
  view_.group_panels = static_cast<unsigned>((rows + kPanelRows - 1) / kPanelRows);
}

std::size_t CudaWeight::first_row(std::size_t i) const noexcept {
  return i / view_.group_panels * view_.group_rows + i % view_.group_panels * kPanelRows;
}

std::size_t CudaWeight::live(std::size_t i) const noexcept {
  const std::size_t left = view_.group_rows - i % view_.group_panels * kPanelRows;
  return left < kPanelRows ? left : kPanelRows;
}

std::size_t weight_bytes(const MatrixView& matrix, std::size_t groups) { return bytes_of(layout_of(matrix, groups)); }

void pack_panel(std::byte* to, const CudaWeight& weight, const MatrixView& source, std::size_t i) noexcept {
  const WeightView& view = weight.view();
  const std::size_t rows = weight.live(i), row_bytes = source.row_bytes();
  if (rows < kPanelRows || is_float(view.format))
    std::memset(to, 0, view.panel_bytes);  // what is missing weighs nothing
  for (std::size_t row = 0; row < rows; ++row) {
    const std::byte* from = source.data + (weight.first_row(i) + row) * row_bytes;
    if (is_float(view.format)) {
      pack_floats(to, row, from, row_bytes);
    } else {
      pack_row(to, row, source.dtype, from, view.cols);
    }
  }
  if (!is_float(view.format)) turn_panel(to, view.format, view.cols);
}

}  // namespace qwen35::cuda
