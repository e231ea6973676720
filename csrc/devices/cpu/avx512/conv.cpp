#include "devices/cpu/simd/conv.h"

#include "devices/cpu/avx512/isa.h"

namespace qwen35::cpu {

void add_avx512_conv(Table& table) noexcept { Conv<Avx512>::add_to(table); }

}  // namespace qwen35::cpu
