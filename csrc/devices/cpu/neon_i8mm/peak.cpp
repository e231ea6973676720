#include "devices/cpu/neon/peak.h"

namespace qwen35::cpu {
namespace {

// Two rows of eight times two rows of eight.
struct NeonMatrices : NeonPeak {
  static constexpr std::size_t kProducts = 32;
  static V step(V chain, V x, V w) noexcept {
    return vmmlaq_s32(chain, vreinterpretq_s8_s32(x), vreinterpretq_s8_s32(w));
  }
};

}  // namespace

void add_neon_i8mm_peak(Table& table) noexcept { Peak<NeonMatrices>::add_to(table); }

}  // namespace qwen35::cpu
