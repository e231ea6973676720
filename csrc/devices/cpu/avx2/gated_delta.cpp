#include "devices/cpu/simd/gated_delta.h"

#include "devices/cpu/avx2/isa.h"

namespace qwen35::cpu {

void add_avx2_gated_delta(Table& table) noexcept { GatedDelta<Avx2>::add_to(table); }

}  // namespace qwen35::cpu
