#include "devices/cpu/simd/attend.h"

#include "devices/cpu/avx2/isa.h"

namespace qwen35::cpu {

void add_avx2_attend(Table& table) noexcept { add_attend<Avx2>(table); }

}  // namespace qwen35::cpu
