// What this machine can do at most, measured with the loops of an instruction set.
#pragma once

#include <cstddef>

#include "backend/peak.h"
#include "base/workers.h"
#include "devices/cpu/kernels.h"

namespace qwen35::cpu {

// As Backend::read_memory and multiply_int8. Each thread reads its own part of the buffer, whole blocks of kReadBlock.
MeasuredRate read_memory(const Table& table, Workers& workers, std::size_t bytes, unsigned repetitions);
MeasuredRate multiply_int8(const Table& table, Workers& workers, unsigned repetitions);

}  // namespace qwen35::cpu
