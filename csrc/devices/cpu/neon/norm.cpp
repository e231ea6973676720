#include "devices/cpu/simd/norm.h"

#include "devices/cpu/neon/isa.h"

namespace qwen35::cpu {

void add_neon_norm(Table& table) noexcept { Norm<Neon>::add_to(table); }

}  // namespace qwen35::cpu
