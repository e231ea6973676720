// Matrices into panels: what a device that packs weights shares with the others. What it makes of a panel is its own.
#pragma once

#include <cstddef>

#include "devices/panel_format.h"
#include "tensor/tensor.h"

namespace qwen35 {

// The format that holds a tensor type.
PanelFormat panel_format(DType dtype) noexcept;

// Throws FormatError for a matrix that cannot be packed into so many groups.
void check_panels(const MatrixView& matrix, std::size_t groups);

// One encoded row of `cols` columns, whole blocks, into its place in a panel of panel_layout.h.
void pack_row(std::byte* panel, std::size_t row, DType dtype, const std::byte* source, std::size_t cols) noexcept;

}  // namespace qwen35
