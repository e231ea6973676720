#include "devices/cpu/neon/integers.h"

namespace qwen35::cpu {

void add_neon_matmul(MatmulTable& table) noexcept { add_matmul<NeonIntegers>(table); }

}  // namespace qwen35::cpu
