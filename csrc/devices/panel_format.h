// How packed weights hold their numbers, on every device that packs them into panels of 32 rows.
//
// This header is included by files compiled for one instruction set: types only.
#pragma once

#include <cstddef>
#include <cstdint>

namespace qwen35 {

// In one list: NAME of a format has a unit of panel_layout.h, the CPU's kernels FormatNAME and, but for Levels and
// Affine, the tensor type DType::kNAME. Tensor types without a layout of their own are held exactly by Levels or
// Affine. Integer formats multiply quantised activations.
#define QWEN35_TYPED_FORMATS(NAME) NAME(Q4_0) NAME(IQ4_NL) NAME(IQ4_XS) NAME(Q4_K) NAME(Q5_K) NAME(Q6_K) NAME(Q8_0)
#define QWEN35_INTEGER_FORMATS(NAME) QWEN35_TYPED_FORMATS(NAME) NAME(Levels) NAME(Affine)
#define QWEN35_FLOAT_FORMATS(NAME) NAME(F32) NAME(F16) NAME(BF16)
#define QWEN35_PANEL_FORMATS(NAME) QWEN35_INTEGER_FORMATS(NAME) QWEN35_FLOAT_FORMATS(NAME)

#define QWEN35_ENUMERATOR(name) k##name,
#define QWEN35_ONE(name) +1
enum class PanelFormat : std::uint8_t { QWEN35_PANEL_FORMATS(QWEN35_ENUMERATOR) };
inline constexpr std::size_t kPanelFormats = 0 QWEN35_PANEL_FORMATS(QWEN35_ONE);
#undef QWEN35_ENUMERATOR
#undef QWEN35_ONE

inline constexpr std::size_t kPanelRows = 32;

}  // namespace qwen35
