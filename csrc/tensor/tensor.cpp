// The table of data types.
#include "tensor/tensor.h"

namespace qwen35 {
namespace {

constexpr DTypeInfo kTypes[] = {
    {DType::kF32, "F32", 1, 4},
    {DType::kF16, "F16", 1, 2},
    {DType::kBF16, "BF16", 1, 2},
    {DType::kQ8_0, "Q8_0", 32, 34},
    {DType::kQ4_0, "Q4_0", 32, 18},
    {DType::kQ4_1, "Q4_1", 32, 20},
    {DType::kQ5_0, "Q5_0", 32, 22},
    {DType::kQ5_1, "Q5_1", 32, 24},
    {DType::kQ2_K, "Q2_K", 256, 84},
    {DType::kQ3_K, "Q3_K", 256, 110},
    {DType::kQ4_K, "Q4_K", 256, 144},
    {DType::kQ5_K, "Q5_K", 256, 176},
    {DType::kQ6_K, "Q6_K", 256, 210},
    {DType::kIQ4_NL, "IQ4_NL", 32, 18},
    {DType::kIQ4_XS, "IQ4_XS", 256, 136},
    {DType::kIQ2_XXS, "IQ2_XXS", 256, 66},
    {DType::kIQ2_XS, "IQ2_XS", 256, 74},
    {DType::kIQ2_S, "IQ2_S", 256, 82},
    {DType::kIQ3_XXS, "IQ3_XXS", 256, 98},
    {DType::kIQ3_S, "IQ3_S", 256, 110},
    {DType::kMXFP4, "MXFP4", 32, 17},
};

constexpr DTypeInfo foreign(std::uint32_t number, const char* name, std::uint32_t block, std::uint32_t bytes) {
  return {static_cast<DType>(number), name, block, bytes};
}

// Named and measured, so that an error can say what a file holds and a plan how much. Sizes as in ggml-common.h.
constexpr DTypeInfo kForeignTypes[] = {
    foreign(9, "Q8_1", 32, 36),    foreign(15, "Q8_K", 256, 292), foreign(19, "IQ1_S", 256, 50),
    foreign(24, "I8", 1, 1),       foreign(25, "I16", 1, 2),      foreign(26, "I32", 1, 4),
    foreign(27, "I64", 1, 8),      foreign(28, "F64", 1, 8),      foreign(29, "IQ1_M", 256, 56),
    foreign(34, "TQ1_0", 256, 54), foreign(35, "TQ2_0", 256, 66), foreign(40, "NVFP4", 64, 36),
    foreign(41, "Q1_0", 128, 18),
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

const DTypeInfo* find_foreign_dtype(std::uint32_t gguf_number) noexcept {
  for (const DTypeInfo& type : kForeignTypes) {
    if (static_cast<std::uint32_t>(type.dtype) == gguf_number) return &type;
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
