#include "devices/cpu/panels.h"

#include <string>

#include "base/error.h"

namespace qwen35::cpu {

PanelFormat panel_format(DType dtype) noexcept {
  switch (dtype) {
#define QWEN35_SAME(name) \
  case DType::k##name:    \
    return PanelFormat::k##name;
    QWEN35_TYPED_FORMATS(QWEN35_SAME)
    QWEN35_FLOAT_FORMATS(QWEN35_SAME)
#undef QWEN35_SAME
    case DType::kQ3_K:
    case DType::kIQ2_XXS:
    case DType::kIQ2_XS:
    case DType::kIQ2_S:
    case DType::kIQ3_XXS:
    case DType::kIQ3_S:
    case DType::kMXFP4:
      return PanelFormat::kLevels;
    case DType::kQ4_1:
    case DType::kQ5_0:
    case DType::kQ5_1:
    case DType::kQ2_K:
      break;
  }
  return PanelFormat::kAffine;
}

std::size_t panel_bytes(PanelFormat format, std::size_t cols) noexcept {
  return with_reader(format, [cols](auto reader) {
    using Reader = decltype(reader);
    return cols / Reader::kColumns * sizeof(typename Reader::Unit);
  });
}

std::size_t packed_bytes(const MatrixView& matrix, std::size_t groups) {
  const DTypeInfo& type = info(matrix.dtype);
  const std::string shape = std::to_string(matrix.rows) + " x " + std::to_string(matrix.cols) + " " + type.name;
  if (find_dtype(static_cast<std::uint32_t>(matrix.dtype)) == nullptr) {
    throw FormatError("pack: a matrix of tensor type " + std::to_string(static_cast<std::uint32_t>(matrix.dtype)) +
                      ", which this backend cannot read");
  }
  if (matrix.rows == 0 || matrix.cols == 0) throw FormatError("pack: the matrix " + shape + " is empty");
  if (matrix.cols % type.block != 0) {
    throw FormatError("pack: " + shape + ": columns must be a multiple of the type's block, " +
                      std::to_string(type.block));
  }
  if (groups == 0 || matrix.rows % groups != 0) {
    throw FormatError("pack: " + shape + ": rows must divide into " + std::to_string(groups) + " groups");
  }
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
