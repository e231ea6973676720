// What this machine can do at most, measured with the loops of an instruction set: the yardstick of `qwen35 bench`.
#pragma once

#include <cstddef>

#include "devices/cpu/isa.h"

namespace qwen35::cpu {

// Bytes per second that `threads` threads read from a buffer of `bytes`, each its own part from end to end; the best of
// `repetitions`. The buffer has to be well above the last-level cache for this to be the memory's rate.
double read_bandwidth(Isa isa, unsigned threads, std::size_t bytes, unsigned repetitions);

// 8-bit multiplications and additions (counted apart) per second of `threads` threads out of registers alone; the best
// of `repetitions`.
double int8_throughput(Isa isa, unsigned threads, unsigned repetitions);

}  // namespace qwen35::cpu
