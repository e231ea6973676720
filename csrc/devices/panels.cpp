#include "devices/panels.h"

#include <string>

#include "base/error.h"

namespace qwen35 {

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

void check_panels(const MatrixView& matrix, std::size_t groups) {
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
}

}  // namespace qwen35
