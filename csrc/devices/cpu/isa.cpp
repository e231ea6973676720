#include "devices/cpu/isa.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <string>
#include <vector>

#include "base/error.h"
#include "devices/cpu/kernel_sets.h"

namespace qwen35::cpu {
namespace {

// In the order of Isa, each with the set from which it inherits the kernels that it lacks.
struct IsaInfo {
  const char* name;
  Isa base;
};
constexpr std::array<IsaInfo, kIsas> kInfo{{{"reference", Isa::kReference},
                                            {"avx2", Isa::kReference},
                                            {"avxvnni", Isa::kAvx2},
                                            {"avx512", Isa::kAvx2},
                                            {"amx", Isa::kAvx512},
                                            {"neon", Isa::kReference},
                                            {"neon_i8mm", Isa::kNeon}}};

const IsaInfo& info(Isa isa) noexcept { return kInfo[static_cast<std::size_t>(isa)]; }

const KernelSet* find_set(Isa isa) noexcept {
  const auto sets = kernel_sets();
  const auto set =
      std::ranges::find_if(sets, [&](const KernelSet& s) { return s.isa == std::string_view(isa_name(isa)); });
  return set == sets.end() ? nullptr : &*set;
}

std::vector<Isa> detect() {
  std::vector<Isa> isas;
  for (std::size_t i = 0; i < kIsas; ++i) {
    const Isa isa = static_cast<Isa>(i);
    if (find_set(isa) != nullptr && processor_runs(isa)) isas.push_back(isa);
  }
  return isas;
}

void fill(Table& table, Isa isa) {
  if (info(isa).base != isa) fill(table, info(isa).base);
  find_set(isa)->add(table);
}

}  // namespace

const char* isa_name(Isa isa) noexcept { return info(isa).name; }

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
    for (const Isa available : available_isas()) {
      Table& table = built[static_cast<std::size_t>(available)];
      fill(table, available);
      table.matmul.prefetches = !streams_unprompted();
    }
    return built;
  }();
  return tables[static_cast<std::size_t>(isa)];
}

}  // namespace qwen35::cpu
