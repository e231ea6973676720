// Checks, chunks and threads around the encoders.
#include "tensor/encode.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/workers.h"
#include "tensor/encoders.h"
#include "tensor/half.h"

namespace qwen35 {
namespace {

void encode_f32(const float* values, const float*, std::size_t n, std::byte* dst) {
  std::memcpy(dst, values, n * sizeof(float));
}

template <std::uint16_t (*kNarrow)(float)>
void encode_words(const float* values, const float*, std::size_t n, std::byte* dst) {
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint16_t word = kNarrow(values[i]);
    std::memcpy(dst + i * sizeof word, &word, sizeof word);
  }
}

// The largest magnitude a type holds. BF16 keeps the exponents of fp32, but its largest number is a little smaller.
float largest_value(DType dtype) noexcept {
  if (dtype == DType::kF32) return std::numeric_limits<float>::max();
  if (dtype == DType::kBF16) return bf16_to_float(0x7f7f);
  return kHalfMax;
}

[[noreturn]] void refuse_value(const DTypeInfo& type, float value, std::size_t row, std::size_t col) {
  const std::string where = "encode " + std::string(type.name) + ": value at row " + std::to_string(row) + ", column " +
                            std::to_string(col) + " is " + std::to_string(value);
  if (!std::isfinite(value)) throw InputError(where + "; only finite values can be encoded");
  throw InputError(where + "; the type holds magnitudes up to " + std::to_string(largest_value(type.dtype)));
}

void check_row(const DTypeInfo& type, const float* values, std::size_t row, std::size_t cols) {
  const float most = largest_value(type.dtype);
  int bad = 0;  // an int, so that the loop has no branch; a NaN fails every comparison
  for (std::size_t i = 0; i < cols; ++i) bad |= !(std::abs(values[i]) <= most);
  if (bad == 0) return;
  for (std::size_t i = 0; i < cols; ++i) {
    if (!(std::abs(values[i]) <= most)) refuse_value(type, values[i], row, i);
  }
}

// Scaled to a mean of 1, which keeps the encoders' sums in range.
std::vector<float> checked_importance(const DTypeInfo& type, const float* importance, std::size_t cols) {
  std::vector<float> scaled;
  if (importance == nullptr) return scaled;
  double total = 0.0;
  for (std::size_t i = 0; i < cols; ++i) {
    if (!std::isfinite(importance[i]) || importance[i] < 0.0f) {
      throw InputError("encode " + std::string(type.name) + ": importance of column " + std::to_string(i) + " is " +
                       std::to_string(importance[i]) + "; it must be finite and not negative");
    }
    total += static_cast<double>(importance[i]);
  }
  if (total == 0.0) return scaled;
  const double factor = static_cast<double>(cols) / total;
  scaled.resize(cols);
  for (std::size_t i = 0; i < cols; ++i) scaled[i] = static_cast<float>(static_cast<double>(importance[i]) * factor);
  return scaled;
}

}  // namespace

Encoder find_encoder(DType dtype) noexcept {
  switch (dtype) {
    case DType::kF32:
      return encode_f32;
    case DType::kF16:
      return encode_words<float_to_half>;
    case DType::kBF16:
      return encode_words<float_to_bf16>;
    case DType::kQ8_0:
      return encode_q8_0;
    case DType::kQ4_0:
      return encode_q4_0;
    case DType::kQ4_1:
      return encode_q4_1;
    case DType::kQ5_0:
      return encode_q5_0;
    case DType::kQ5_1:
      return encode_q5_1;
    case DType::kQ3_K:
      return encode_q3_k;
    case DType::kQ4_K:
      return encode_q4_k;
    case DType::kQ5_K:
      return encode_q5_k;
    case DType::kQ6_K:
      return encode_q6_k;
    case DType::kIQ4_NL:
      return encode_iq4_nl;
    case DType::kIQ4_XS:
      return encode_iq4_xs;
    case DType::kQ2_K:
    case DType::kIQ2_XXS:
    case DType::kIQ2_XS:
    case DType::kIQ2_S:
    case DType::kIQ3_XXS:
    case DType::kIQ3_S:
    case DType::kMXFP4:
      break;
  }
  return nullptr;
}

bool can_encode(DType dtype) noexcept { return find_encoder(dtype) != nullptr; }

void check_encodable(DType dtype, const float* values, std::size_t rows, std::size_t cols) {
  for (std::size_t row = 0; row < rows; ++row) check_row(info(dtype), values + row * cols, row, cols);
}

void encode(DType dtype, const float* values, std::size_t rows, std::size_t cols, const float* importance,
            std::byte* dst, unsigned threads) {
  const DTypeInfo& type = info(dtype);
  const Encoder encoder = find_encoder(dtype);
  if (encoder == nullptr) throw InputError(std::string("encode: there is no encoder for type ") + type.name);
  if (cols % type.block != 0) {
    throw InputError("encode " + std::string(type.name) + ": rows of " + std::to_string(cols) +
                     " values are not whole blocks of " + std::to_string(type.block));
  }
  if (rows == 0 || cols == 0) return;
  const std::vector<float> scaled = checked_importance(type, importance, cols);
  const float* weights = scaled.empty() ? nullptr : scaled.data();
  const std::size_t row_bytes = cols / type.block * type.block_bytes;
  const auto encode_row = [&](std::size_t row) {
    check_row(type, values + row * cols, row, cols);
    encoder(values + row * cols, weights, cols, dst + row * row_bytes);
  };
  // Rows are handed out in chunks large enough that the hand-out costs nothing.
  constexpr std::size_t kChunkValues = 16384;
  const std::size_t chunk = std::max<std::size_t>(1, kChunkValues / cols);
  const std::size_t chunks = (rows + chunk - 1) / chunk;
  Workers workers(chunks == 1 ? 1 : threads);
  workers.each_item(chunks, [&](std::size_t i, unsigned) {
    for (std::size_t row = i * chunk; row < std::min(rows, (i + 1) * chunk); ++row) encode_row(row);
  });
}

}  // namespace qwen35
