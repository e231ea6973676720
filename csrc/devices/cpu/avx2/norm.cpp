#include "devices/cpu/simd/norm.h"

#include "devices/cpu/avx2/isa.h"

namespace qwen35::cpu {

void add_avx2_norm(Table& table) noexcept { Norm<Avx2>::add_to(table); }

}  // namespace qwen35::cpu
