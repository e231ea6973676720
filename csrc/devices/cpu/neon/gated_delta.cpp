#include "devices/cpu/simd/gated_delta.h"

#include "devices/cpu/neon/isa.h"

namespace qwen35::cpu {

void add_neon_gated_delta(Table& table) noexcept { GatedDelta<Neon>::add_to(table); }

}  // namespace qwen35::cpu
