#include "devices/cpu/avx2/peak.h"

namespace qwen35::cpu {
namespace {

// As the products of this folder: 8-bit pairs to 16 bits, those to 32, and an addition.
struct Avx2Pairs : Avx2Peak {
  static V step(V chain, V x, V w) noexcept {
    return _mm256_add_epi32(chain, _mm256_madd_epi16(_mm256_maddubs_epi16(x, w), _mm256_set1_epi16(1)));
  }
};

}  // namespace

void add_avx2_peak(Table& table) noexcept { Peak<Avx2Pairs>::add_to(table); }

}  // namespace qwen35::cpu
