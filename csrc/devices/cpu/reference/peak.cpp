// Scalar twins of read_sum and multiply_int8.
#include <cstring>

#include "devices/cpu/kernels.h"

namespace qwen35::cpu {
namespace {

std::uint64_t read_sum(const std::byte* data, std::size_t bytes, std::size_t) noexcept {
  constexpr std::size_t kSums = 8;
  std::uint64_t sums[kSums] = {};
  for (std::size_t at = 0; at < bytes; at += sizeof sums) {
    for (std::size_t i = 0; i < kSums; ++i) {
      std::uint64_t word;
      std::memcpy(&word, data + at + i * sizeof word, sizeof word);
      sums[i] += word;
    }
  }
  for (std::size_t i = 1; i < kSums; ++i) sums[0] += sums[i];
  return sums[0];
}

// Each chain multiplies by what it has summed, so that no product can be computed once and for all.
std::uint64_t multiply_int8(std::size_t rounds, std::uint32_t* sum) noexcept {
  constexpr std::size_t kChains = 8;
  std::int32_t chains[kChains];
  for (std::size_t i = 0; i < kChains; ++i) chains[i] = static_cast<std::int32_t>(i + 1);
  for (std::size_t round = 0; round < rounds; ++round) {
    for (std::int32_t& chain : chains) chain = (static_cast<std::int8_t>(chain) * 83 + (chain >> 3)) & 0xffff;
  }
  for (const std::int32_t chain : chains) *sum += static_cast<std::uint32_t>(chain);
  return 2 * std::uint64_t{kChains} * rounds;
}

}  // namespace

void add_reference_peak(Table& table) noexcept {
  table.read_sum = read_sum;
  table.multiply_int8 = multiply_int8;
}

}  // namespace qwen35::cpu
