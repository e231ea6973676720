#include "devices/cpu/isa.h"

#include <array>
#include <cstdlib>
#include <string>
#include <vector>

#include "base/error.h"

#if defined(_MSC_VER) && defined(_M_X64)
#include <immintrin.h>
#include <intrin.h>
#endif

namespace qwen35::cpu {
namespace {

#if defined(_MSC_VER) && defined(_M_X64)
bool bit(int word, int index) { return (static_cast<unsigned>(word) >> index & 1U) != 0; }

// Leaf 7, when the system saves the registers that `state` names (bits of XCR0).
bool leaf7(std::array<int, 4>& regs, unsigned long long state) {
  std::array<int, 4> one{};
  __cpuidex(one.data(), 1, 0);
  const bool has_basics = bit(one[2], 12) && bit(one[2], 27) && bit(one[2], 29);  // FMA, OSXSAVE, F16C
  if (!has_basics || (_xgetbv(0) & state) != state) return false;
  __cpuidex(regs.data(), 7, 0);
  return true;
}

[[maybe_unused]] bool runs_avx2() {
  std::array<int, 4> r{};
  return leaf7(r, 0x6) && bit(r[1], 5);
}

[[maybe_unused]] bool runs_avx512() {
  std::array<int, 4> r{};  // F, DQ, BW, VL, VNNI
  return leaf7(r, 0xe6) && bit(r[1], 16) && bit(r[1], 17) && bit(r[1], 30) && bit(r[1], 31) && bit(r[2], 11);
}
#elif defined(__x86_64__)
[[maybe_unused]] bool runs_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}

[[maybe_unused]] bool runs_avx512() {
  return runs_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vnni");
}
#endif

std::vector<Isa> detect() {
  std::vector<Isa> isas{Isa::kReference};
#if defined(QWEN35_HAS_AVX2)
  if (runs_avx2()) isas.push_back(Isa::kAvx2);
#endif
#if defined(QWEN35_HAS_AVX2) && defined(QWEN35_HAS_AVX512)
  if (runs_avx512()) isas.push_back(Isa::kAvx512);
#endif
  return isas;
}

Table build([[maybe_unused]] Isa isa) {
  Table table{};
  add_reference_matmul(table.matmul);
  add_reference_norm(table);
  add_reference_conv(table);
  add_reference_gated_delta(table);
  add_reference_attend(table);
  add_reference_route(table);
  add_reference_peak(table);
#if defined(QWEN35_HAS_AVX2)
  if (isa >= Isa::kAvx2) {
    add_avx2_matmul(table.matmul);
    add_avx2_norm(table);
    add_avx2_conv(table);
    add_avx2_gated_delta(table);
    add_avx2_attend(table);
    add_avx2_peak(table);
  }
#endif
#if defined(QWEN35_HAS_AVX512)
  if (isa >= Isa::kAvx512) {
    add_avx512_matmul(table.matmul);
    add_avx512_norm(table);
    add_avx512_conv(table);
    add_avx512_gated_delta(table);
    add_avx512_attend(table);
    add_avx512_peak(table);
  }
#endif
  return table;
}

}  // namespace

const char* isa_name(Isa isa) noexcept {
  constexpr std::array names{"reference", "avx2", "avx512"};
  return names[static_cast<std::size_t>(isa)];
}

std::span<const Isa> available_isas() noexcept {
  static const std::vector<Isa> isas = detect();
  return isas;
}

Isa find_isa(std::string_view name) {
  std::string available;
  for (const Isa isa : available_isas()) {
    if (name == isa_name(isa)) return isa;
    available += (available.empty() ? "" : ", ") + std::string(isa_name(isa));
  }
  throw Error("instruction set '" + std::string(name) + "' is not available: this build on this machine has " +
              available + ". Set QWEN35_ISA to one of these, or leave it unset for the fastest");
}

Isa chosen_isa() {
  const char* wanted = std::getenv("QWEN35_ISA");
  return wanted != nullptr && *wanted != '\0' ? find_isa(wanted) : available_isas().back();
}

const Table& kernels(Isa isa) {
  static const std::array<Table, 3> tables{build(Isa::kReference), build(Isa::kAvx2), build(Isa::kAvx512)};
  return tables[static_cast<std::size_t>(isa)];
}

}  // namespace qwen35::cpu
