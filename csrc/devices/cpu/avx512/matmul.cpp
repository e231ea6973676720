#include "devices/cpu/avx512/integers.h"

namespace qwen35::cpu {

void add_avx512_matmul(MatmulTable& table) noexcept { add_matmul<Avx512Integers>(table); }

}  // namespace qwen35::cpu
