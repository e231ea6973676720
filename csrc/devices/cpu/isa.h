// Which instruction sets this build carries, which of them this machine can run, and which one is used.
#pragma once

#include <span>
#include <string_view>

#include "devices/cpu/kernels.h"

namespace qwen35::cpu {

// Sets of one architecture are neighbours; each comes after the sets whose kernels it inherits.
enum class Isa : unsigned char { kReference, kAvx2, kAvxVnni, kAvx512, kAmx, kNeon, kNeonI8mm };

inline constexpr std::size_t kIsas = 7;

const char* isa_name(Isa isa) noexcept;  // "reference", "avx2", "avxvnni", "avx512", "amx", "neon", "neon_i8mm"

// Whether this processor and its system run the instructions; says nothing of what this build carries.
bool processor_runs(Isa isa) noexcept;

// Whether the hardware alone reads a stream as fast as memory gives it. On AMD's cores it does, and a prefetch
// instruction holds one of the first-level cache's 24 misses for as long as memory takes: one core of an EPYC 9004
// reads 33 GB/s without and 24 with them.
bool streams_unprompted() noexcept;

// Of one core, as the system tells it; a common size where it does not.
std::size_t second_level_cache_bytes() noexcept;

// Built in and supported by this machine, from the scalar twins upwards. Never empty.
std::span<const Isa> available_isas() noexcept;

// The last of available_isas(), or what the environment variable QWEN35_ISA names. Throws Unavailable when that is
// unknown or not available here.
Isa chosen_isa();

// By name, for tests; throws Unavailable when it is unknown or not available here.
Isa find_isa(std::string_view name);

// Every kernel for this instruction set, one of available_isas(); where it has none of its own, the next simpler one's.
const Table& kernels(Isa isa);

}  // namespace qwen35::cpu
