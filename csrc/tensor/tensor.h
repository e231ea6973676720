// Data types as GGUF numbers them, and views of matrices. A view owns nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "tensor/device_ptr.h"

namespace qwen35 {

// Numbered as in GGUF files. Every type here can be decoded (tensor/blocks.h).
enum class DType : std::uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ2_K = 10,
  kQ3_K = 11,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kIQ2_XXS = 16,
  kIQ2_XS = 17,
  kIQ3_XXS = 18,
  kIQ4_NL = 20,
  kIQ3_S = 21,
  kIQ2_S = 22,
  kIQ4_XS = 23,
  kBF16 = 30,
  kMXFP4 = 39,
};

struct DTypeInfo {
  DType dtype;
  const char* name;           // as GGUF tools spell it: "Q4_K"
  std::uint32_t block;        // values per block
  std::uint32_t block_bytes;  // bytes per block
};

// nullptr when the number is not one of DType.
const DTypeInfo* find_dtype(std::uint32_t gguf_number) noexcept;
const DTypeInfo* find_dtype(std::string_view name) noexcept;
// A number outside DType gives "unknown": one value per block of no bytes.
const DTypeInfo& info(DType dtype) noexcept;
std::span<const DTypeInfo> dtypes() noexcept;
// Name of a type that other programs write and this one does not decode; nullptr for unknown numbers and for those of
// DType.
const DTypeInfo* find_foreign_dtype(std::uint32_t gguf_number) noexcept;

// Encoded weights somewhere in a mapped file: rows x cols, each row a whole number of blocks, row-major.
struct MatrixView {
  const std::byte* data = nullptr;
  DType dtype = DType::kF32;
  std::size_t rows = 0;
  std::size_t cols = 0;

  std::size_t row_bytes() const noexcept {
    const DTypeInfo& d = info(dtype);
    return cols / d.block * d.block_bytes;
  }
  std::size_t bytes() const noexcept { return rows * row_bytes(); }
};

// fp32 activations in a device's memory: rows x cols, `stride` floats from one row to the next.
struct Tensor {
  DevicePtr<float> data;
  std::size_t rows = 0;
  std::size_t cols = 0;
  std::size_t stride = 0;

  Tensor rows_from(std::size_t first, std::size_t n) const noexcept { return {data + first * stride, n, cols, stride}; }
  Tensor first_rows(std::size_t n) const noexcept { return rows_from(0, n); }
};

}  // namespace qwen35
