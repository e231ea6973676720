#include "devices/cpu/simd/gated_delta.h"

#include "devices/cpu/avx512/isa.h"

namespace qwen35::cpu {

void add_avx512_gated_delta(Table& table) noexcept { GatedDelta<Avx512>::add_to(table); }

}  // namespace qwen35::cpu
