#include "devices/cpu/simd/norm.h"

#include "devices/cpu/avx512/isa.h"

namespace qwen35::cpu {

void add_avx512_norm(Table& table) noexcept { Norm<Avx512>::add_to(table); }

}  // namespace qwen35::cpu
