// A table of embeddings, which stays on the host: its rows are decoded there, and go to the card as floats.
#pragma once

#include <cstddef>
#include <memory>

#include "backend/backend.h"
#include "base/mapping.h"
#include "tensor/tensor.h"

namespace qwen35::cuda {

class HostTable final : public Weight {
 public:
  static constexpr const char* kLayout = "a table beside CUDA";

  // Rows are read where they are mapped; without a mapping the table is copied. Throws FormatError for one that cannot
  // be read row by row.
  HostTable(const MatrixView& source, std::shared_ptr<const Mapping> mapping);

  std::size_t rows() const noexcept override { return encoded_.rows; }
  std::size_t cols() const noexcept override { return encoded_.cols; }
  std::size_t bytes() const noexcept override { return 0; }
  const char* layout() const noexcept override { return kLayout; }

  void decode_row(std::size_t row, float* to) const;
  // Throws FormatError when the file has changed since it was opened.
  void require_intact() const;

 private:
  MatrixView encoded_;
  std::shared_ptr<const Mapping> mapping_;
  std::unique_ptr<std::byte[]> copy_;
};

}  // namespace qwen35::cuda
