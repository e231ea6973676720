// What a model takes on the CPU, from the layouts and the scratch of its operations.
#pragma once

#include <span>

#include "backend/footprint.h"
#include "devices/cpu/matmul_kernels.h"

namespace qwen35::cpu {

// Throws FormatError for a matrix that cannot be packed.
std::size_t weight_bytes(const MatrixShape& matrix);

// With the kernels of `table`. Throws InputError for heads that there are no kernels for, or that cannot be kept in
// this format.
Footprint footprint(const MatmulTable& table, const ModelShape& model, std::span<const MatrixShape> weights,
                    const Workload& work);

}  // namespace qwen35::cpu
