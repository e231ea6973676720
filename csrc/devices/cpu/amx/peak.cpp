// What the tile multiplier can do: products of whole tiles, 16 x 64 by 64 x 16, out of registers.
#include <cstring>

#include "devices/cpu/amx/tiles.h"
#include "devices/cpu/kernels.h"

namespace qwen35::cpu {
namespace {

constexpr std::size_t kRows = 16, kRowBytes = 64, kChains = 4;

constexpr TileShapes kShapes{.row_bytes = {kRowBytes, kRowBytes, kRowBytes, kRowBytes, kRowBytes, kRowBytes},
                             .rows = {kRows, kRows, kRows, kRows, kRows, kRows}};

std::uint64_t multiply_int8(std::size_t rounds, std::uint32_t* sum) noexcept {
  alignas(64) std::int8_t bytes[kRows][kRowBytes];
  alignas(64) std::int32_t sums[kRows][kRows];
  std::memset(bytes, 3, sizeof bytes);
  const std::size_t stride = kRowBytes;
  asm volatile(
      "ldtilecfg %0\n\t"
      "tileloadd (%1,%2,1), %%tmm4\n\t"
      "tileloadd (%1,%2,1), %%tmm5\n\t"
      "tilezero %%tmm0\n\ttilezero %%tmm1\n\ttilezero %%tmm2\n\ttilezero %%tmm3" ::"m"(kShapes),
      "r"(bytes), "r"(stride)
      : "memory");
  for (std::size_t i = 0; i < rounds; ++i) {
    asm volatile(
        "tdpbssd %%tmm5, %%tmm4, %%tmm0\n\t"
        "tdpbssd %%tmm5, %%tmm4, %%tmm1\n\t"
        "tdpbssd %%tmm5, %%tmm4, %%tmm2\n\t"
        "tdpbssd %%tmm5, %%tmm4, %%tmm3" ::
            : "memory");
  }
  asm volatile("tilestored %%tmm3, (%0,%1,1)\n\ttilerelease" ::"r"(sums), "r"(stride) : "memory");
  *sum += static_cast<std::uint32_t>(sums[0][0]);
  return 2 * std::uint64_t{kChains} * kRows * kRows * kRowBytes * rounds;
}

}  // namespace

void add_amx_peak(Table& table) noexcept { table.multiply_int8 = multiply_int8; }

}  // namespace qwen35::cpu
