#include "devices/cpu/simd/conv.h"

#include "devices/cpu/avx2/isa.h"

namespace qwen35::cpu {

void add_avx2_conv(Table& table) noexcept { Conv<Avx2>::add_to(table); }

}  // namespace qwen35::cpu
