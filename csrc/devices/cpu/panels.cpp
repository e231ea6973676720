#include "devices/cpu/panels.h"

#include <cstring>

namespace qwen35::cpu {

std::size_t panel_bytes(PanelFormat format, std::size_t cols) noexcept {
  return with_reader(format, [cols](auto reader) {
    using Reader = decltype(reader);
    return cols / Reader::kColumns * sizeof(typename Reader::Unit);
  });
}

std::size_t packed_bytes(const MatrixView& matrix, std::size_t groups) {
  check_panels(matrix, groups);
  const std::size_t group_panels = (matrix.rows / groups + kPanelRows - 1) / kPanelRows;
  return groups * group_panels * panel_bytes(panel_format(matrix.dtype), matrix.cols);
}

PackedWeight::PackedWeight(const MatrixView& source, std::size_t groups, Arena& arena)
    : format_(panel_format(source.dtype)),
      groups_(groups),
      group_rows_(groups == 0 ? 0 : source.rows / groups),
      cols_(source.cols),
      panel_bytes_(panel_bytes(format_, cols_)),
      memory_(arena.take(packed_bytes(source, groups))) {}

static_assert(kViewedRows % kPanelRows == 0);

PackedWeight::PackedWeight(const PackedWeight& of, std::size_t first, std::size_t rows)
    : format_(of.format_),
      groups_(1),
      group_rows_(rows),
      cols_(of.cols_),
      panel_bytes_(of.panel_bytes_),
      memory_(of.memory_, of.memory_.get() + first / kPanelRows * panel_bytes_) {}

// Row after row: the source is read once, in order, while the panel stays in the second-level cache.
void PackedWeight::pack_panel(const MatrixView& source, std::size_t i) noexcept {
  std::byte* to = memory_.get() + i * panel_bytes_;
  const std::size_t rows = live(i), row_bytes = source.row_bytes();
  if (rows < kPanelRows) std::memset(to, 0, panel_bytes_);  // missing rows weigh nothing
  for (std::size_t row = 0; row < rows; ++row) {
    pack_row(to, row, source.dtype, source.data + (first_row(i) + row) * row_bytes, cols_);
  }
}

void PackedWeight::decode_row(std::size_t row, float* out) const noexcept {
  const std::size_t group = row / group_rows_, within = row % group_rows_;
  const std::byte* data = panel(group * group_panels() + within / kPanelRows);
  const std::size_t lane = within % kPanelRows;
  with_reader(format_, [&](auto reader) {
    using Reader = decltype(reader);
    const auto* units = reinterpret_cast<const typename Reader::Unit*>(data);
    if constexpr (Reader::kColumns == 1) {
      for (std::size_t c = 0; c < cols_; ++c) out[c] = Reader::read(units[c], lane);
    } else {
      for (std::size_t block = 0; block < cols_ / 32; ++block) {
        RowCodes w;
        Reader::read(units[block * 32 / Reader::kColumns], block % (Reader::kColumns / 32), lane, w);
        for (std::size_t c = 0; c < 32; ++c) {
          out[32 * block + c] = w.scale[c / 16] * static_cast<float>(w.q[c]) - w.min[c / 16];
        }
      }
    }
  });
}

}  // namespace qwen35::cpu
