#include "devices/cpu/avx2/peak.h"

namespace qwen35::cpu {
namespace {

struct AvxVnniPeak : Avx2Peak {
  static V step(V chain, V x, V w) noexcept { return _mm256_dpbusd_avx_epi32(chain, x, w); }
};

}  // namespace

void add_avxvnni_peak(Table& table) noexcept { Peak<AvxVnniPeak>::add_to(table); }

}  // namespace qwen35::cpu
