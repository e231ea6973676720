// The most that operations reserve for themselves, each said beside the operation.
#pragma once

#include <cstddef>

#include "backend/shape.h"

namespace qwen35::cpu {

// cpu_delta.cpp
std::size_t delta_scratch_bytes(const DeltaShape& shape, unsigned workers) noexcept;

// cpu_attention.cpp; passes of up to `rows` rows of one sequence in a context of `context` tokens.
std::size_t attend_scratch_bytes(const AttentionShape& shape, std::size_t rows, std::size_t context,
                                 unsigned workers) noexcept;
std::size_t rope_scratch_bytes(const AttentionShape& shape, std::size_t rows) noexcept;

}  // namespace qwen35::cpu
