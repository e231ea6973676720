// A matrix packed into panels on the card.
#pragma once

#include <cstddef>

#include "backend/backend.h"
#include "devices/cuda/kernel_args.h"
#include "devices/cuda/memory.h"
#include "tensor/tensor.h"

namespace qwen35::cuda {

class CudaWeight final : public Weight {
 public:
  static constexpr const char* kLayout = "panels of CUDA";

  // Memory for the panels of a matrix. Throws FormatError for one that cannot be packed into so many groups.
  CudaWeight(const MatrixView& source, std::size_t groups, Memory& memory);
  // Rows of a matrix in one group, from the beginning of a panel on, in its memory.
  CudaWeight(const CudaWeight& of, std::size_t first, std::size_t rows);

  std::size_t rows() const noexcept override { return std::size_t{view_.groups} * view_.group_rows; }
  std::size_t cols() const noexcept override { return view_.cols; }
  std::size_t bytes() const noexcept override { return panels() * view_.panel_bytes; }
  const char* layout() const noexcept override { return kLayout; }

  const WeightView& view() const noexcept { return view_; }
  std::size_t panels() const noexcept { return std::size_t{view_.groups} * view_.group_panels; }
  // Rows of the matrix that panel i holds: [first_row(i), first_row(i) + live(i)).
  std::size_t first_row(std::size_t i) const noexcept;
  std::size_t live(std::size_t i) const noexcept;

 private:
  WeightView view_;
  Piece memory_;
};

inline const CudaWeight& packed(const Weight& w) noexcept { return static_cast<const CudaWeight&>(w); }

// Of a packed weight. Throws FormatError.
std::size_t weight_bytes(const MatrixView& matrix, std::size_t groups);

// Panel `i` of `source` as the card reads it, into panel_bytes() bytes of the host.
void pack_panel(std::byte* to, const CudaWeight& weight, const MatrixView& source, std::size_t i) noexcept;

}  // namespace qwen35::cuda
