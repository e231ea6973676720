#include "devices/cpu/simd/conv.h"

#include "devices/cpu/neon/isa.h"

namespace qwen35::cpu {

void add_neon_conv(Table& table) noexcept { Conv<Neon>::add_to(table); }

}  // namespace qwen35::cpu
