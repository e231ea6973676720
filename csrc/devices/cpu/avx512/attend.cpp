#include "devices/cpu/simd/attend.h"

#include "devices/cpu/avx512/isa.h"

namespace qwen35::cpu {

void add_avx512_attend(Table& table) noexcept { add_attend<Avx512>(table); }

}  // namespace qwen35::cpu
