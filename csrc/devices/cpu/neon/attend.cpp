#include "devices/cpu/simd/attend.h"

#include "devices/cpu/neon/isa.h"

namespace qwen35::cpu {

void add_neon_attend(Table& table) noexcept { add_attend<Neon>(table); }

}  // namespace qwen35::cpu
