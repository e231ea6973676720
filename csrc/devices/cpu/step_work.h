// What operations ask of Work, each said beside the operation: for one step exactly, and at most.
#pragma once

#include <cstddef>
#include <span>

#include "backend/shape.h"
#include "backend/step.h"
#include "devices/cpu/work.h"

namespace qwen35::cpu {

struct ProductSizes {
  std::size_t rows;
  unsigned workers;
  bool quantises;    // a weight is multiplied by quantised rows
  bool interleaves;  // the kernels take them in tiles
};

// cpu_matmul.cpp
void add_dense_work(WorkBytes& work, const ModelShape& model, const ProductSizes& sizes) noexcept;

// cpu_moe.cpp; the most, whichever experts the rows go to.
void add_expert_work(WorkBytes& work, std::size_t hidden, const ExpertShape& moe, const ProductSizes& sizes) noexcept;

// cpu_delta.cpp
void add_delta_work(WorkBytes& work, const DeltaShape& shape, unsigned workers) noexcept;

// cpu_attention.cpp; the most: in passes of up to `rows` rows of one sequence in a context of `context` tokens.
void add_rope_work(WorkBytes& work, const AttentionShape& shape, std::size_t rows) noexcept;
void add_attend_work(WorkBytes& work, const AttentionShape& shape, std::span<const StepSegment> segments,
                     unsigned workers) noexcept;
void add_most_attend_work(WorkBytes& work, const AttentionShape& shape, std::size_t rows, std::size_t context,
                          unsigned workers) noexcept;

}  // namespace qwen35::cpu
