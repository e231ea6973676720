#include "devices/cpu/isa.h"

#include <array>
#include <cstdlib>
#include <string>
#include <vector>

#include "base/error.h"

namespace qwen35::cpu {
namespace {

// The folders that CMakeLists.txt compiled. One that builds on another's kernels is never compiled without it.
constexpr Isa kBuilt[] = {
    Isa::kReference,
#if defined(QWEN35_HAS_AVX2)
    Isa::kAvx2,
#endif
#if defined(QWEN35_HAS_AVXVNNI)
    Isa::kAvxVnni,
#endif
#if defined(QWEN35_HAS_AVX512)
    Isa::kAvx512,
#endif
#if defined(QWEN35_HAS_AMX)
    Isa::kAmx,
#endif
#if defined(QWEN35_HAS_NEON)
    Isa::kNeon,
#endif
#if defined(QWEN35_HAS_NEON_I8MM)
    Isa::kNeonI8mm,
#endif
};

std::vector<Isa> detect() {
  std::vector<Isa> isas;
  for (const Isa isa : kBuilt) {
    if (processor_runs(isa)) isas.push_back(isa);
  }
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
#if defined(QWEN35_HAS_AVXVNNI)
  if (isa == Isa::kAvxVnni) {
    add_avxvnni_matmul(table.matmul);
    add_avxvnni_peak(table);
  }
#endif
#if defined(QWEN35_HAS_AVX512)
  if (isa >= Isa::kAvx512 && isa <= Isa::kAmx) {
    add_avx512_matmul(table.matmul);
    add_avx512_norm(table);
    add_avx512_conv(table);
    add_avx512_gated_delta(table);
    add_avx512_attend(table);
    add_avx512_peak(table);
  }
#endif
#if defined(QWEN35_HAS_AMX)
  if (isa == Isa::kAmx) {
    add_amx_matmul(table.matmul);
    add_amx_peak(table);
  }
#endif
#if defined(QWEN35_HAS_NEON)
  if (isa >= Isa::kNeon) {
    add_neon_matmul(table.matmul);
    add_neon_norm(table);
    add_neon_conv(table);
    add_neon_gated_delta(table);
    add_neon_attend(table);
    add_neon_peak(table);
  }
#endif
#if defined(QWEN35_HAS_NEON_I8MM)
  if (isa == Isa::kNeonI8mm) {
    add_neon_i8mm_matmul(table.matmul);
    add_neon_i8mm_peak(table);
  }
#endif
  return table;
}

}  // namespace

const char* isa_name(Isa isa) noexcept {
  constexpr std::array<const char*, kIsas> names{"reference", "avx2", "avxvnni", "avx512", "amx", "neon", "neon_i8mm"};
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
  throw Unavailable("instruction set '" + std::string(name) + "' is not available: this build on this machine has " +
                    available + ". Set QWEN35_ISA to one of these, or leave it unset for the fastest");
}

Isa chosen_isa() {
  const char* wanted = std::getenv("QWEN35_ISA");
  return wanted != nullptr && *wanted != '\0' ? find_isa(wanted) : available_isas().back();
}

// A table is filled in only where the processor runs its kernels: filling it in is already code with their flags.
const Table& kernels(Isa isa) {
  static const std::array<Table, kIsas> tables = [] {
    std::array<Table, kIsas> built{};
    for (const Isa available : available_isas()) built[static_cast<std::size_t>(available)] = build(available);
    return built;
  }();
  return tables[static_cast<std::size_t>(isa)];
}

}  // namespace qwen35::cpu
