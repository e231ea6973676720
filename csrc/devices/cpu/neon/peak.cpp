#include "devices/cpu/neon/peak.h"

namespace qwen35::cpu {
namespace {

struct NeonDots : NeonPeak {
  static constexpr std::size_t kProducts = 16;
  static V step(V chain, V x, V w) noexcept {
    return vdotq_s32(chain, vreinterpretq_s8_s32(x), vreinterpretq_s8_s32(w));
  }
};

}  // namespace

void add_neon_peak(Table& table) noexcept { Peak<NeonDots>::add_to(table); }

}  // namespace qwen35::cpu
