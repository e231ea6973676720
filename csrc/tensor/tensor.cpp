// The table of data types.
#include "tensor/tensor.h"

namespace qwen35 {
namespace {

constexpr DTypeInfo kTypes[] = {
    {DType::kF32, "F32", 1, 4},       {DType::kF16, "F16", 1, 2},         {DType::kBF16, "BF16", 1, 2},
    {DType::kQ8_0, "Q8_0", 32, 34},   {DType::kQ4_0, "Q4_0", 32, 18},     {DType::kQ4_1, "Q4_1", 32, 20},
    {DType::kQ5_0, "Q5_0", 32, 22},   {DType::kQ5_1, "Q5_1", 32, 24},     {DType::kQ2_K, "Q2_K", 256, 84},
    {DType::kQ3_K, "Q3_K", 256, 110}, {DType::kQ4_K, "Q4_K", 256, 144},   {DType::kQ5_K, "Q5_K", 256, 176},
    {DType::kQ6_K, "Q6_K", 256, 210}, {DType::kIQ4_NL, "IQ4_NL", 32, 18}, {DType::kIQ4_XS, "IQ4_XS", 256, 136},
};

}  // namespace

std::span<const DTypeInfo> dtypes() noexcept { return kTypes; }

const DTypeInfo* find_dtype(std::uint32_t gguf_number) noexcept {
  for (const DTypeInfo& type : kTypes) {
    if (static_cast<std::uint32_t>(type.dtype) == gguf_number) return &type;
  }
  return nullptr;
}

const DTypeInfo* find_dtype(std::string_view name) noexcept {
  for (const DTypeInfo& type : kTypes) {
    if (name == type.name) return &type;
  }
  return nullptr;
}

const DTypeInfo& info(DType dtype) noexcept {
  // A DType that is not in the table has no block; one value per block of no bytes keeps divisions safe.
  static constexpr DTypeInfo kNone{DType::kF32, "unknown", 1, 0};
  const DTypeInfo* found = find_dtype(static_cast<std::uint32_t>(dtype));
  return found != nullptr ? *found : kNone;
}

}  // namespace qwen35
