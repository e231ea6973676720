// What the processor says of itself.
#include <array>
#include <cstddef>

#include "devices/cpu/isa.h"

#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#elif defined(_MSC_VER) && defined(_M_X64)
#include <immintrin.h>
#include <intrin.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif
#if defined(__linux__)
#include <unistd.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace qwen35::cpu {
namespace {

#if defined(__x86_64__) || (defined(_MSC_VER) && defined(_M_X64))

struct Leaf {
  unsigned a = 0, b = 0, c = 0, d = 0;  // eax, ebx, ecx, edx
};

#if defined(_MSC_VER)
Leaf cpuid(unsigned leaf, unsigned part) noexcept {
  std::array<int, 4> r{};
  __cpuid(r.data(), 0);
  if (static_cast<unsigned>(r[0]) < leaf) return {};
  __cpuidex(r.data(), static_cast<int>(leaf), static_cast<int>(part));
  return {static_cast<unsigned>(r[0]), static_cast<unsigned>(r[1]), static_cast<unsigned>(r[2]),
          static_cast<unsigned>(r[3])};
}

unsigned long long saved_state() noexcept { return _xgetbv(0); }
#else
Leaf cpuid(unsigned leaf, unsigned part) noexcept {
  Leaf r;
  return __get_cpuid_count(leaf, part, &r.a, &r.b, &r.c, &r.d) != 0 ? r : Leaf{};
}

unsigned long long saved_state() noexcept {
  unsigned low = 0, high = 0;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return static_cast<unsigned long long>(high) << 32 | low;
}
#endif

bool bit(unsigned word, int index) noexcept { return (word >> index & 1U) != 0; }

// Whether the system saves the registers that `state` names (bits of XCR0), on a processor with FMA and F16C.
bool keeps(unsigned long long state) noexcept {
  const Leaf one = cpuid(1, 0);
  const bool has_xgetbv = bit(one.c, 27);
  return bit(one.c, 12) && bit(one.c, 29) && has_xgetbv && (saved_state() & state) == state;
}

bool runs_avx2() noexcept { return keeps(0x6) && bit(cpuid(7, 0).b, 5); }

bool runs_avxvnni() noexcept { return runs_avx2() && bit(cpuid(7, 1).a, 4); }

bool runs_avx512() noexcept {
  const Leaf seven = cpuid(7, 0);  // F, DQ, BW, VL, VNNI
  return runs_avx2() && keeps(0xe6) && bit(seven.b, 16) && bit(seven.b, 17) && bit(seven.b, 30) && bit(seven.b, 31) &&
         bit(seven.c, 11);
}

// The system saves the tile registers only of processes that have asked.
bool runs_amx() noexcept {
#if defined(__linux__)
  constexpr long kRequestState = 0x1023, kTileData = 18;  // arch_prctl, asm/prctl.h; the bit of XCR0
  const Leaf seven = cpuid(7, 0);                         // AMX-TILE, AMX-INT8
  return runs_avx512() && keeps(0x600e6) && bit(seven.d, 24) && bit(seven.d, 25) &&
         syscall(SYS_arch_prctl, kRequestState, kTileData) == 0;
#else
  return false;
#endif
}

#elif defined(__aarch64__) && defined(__linux__)

// Bits of the kernel's interface, which does not change; older headers have no names for them.
bool runs_neon() noexcept { return (getauxval(AT_HWCAP) >> 20 & 1UL) != 0; }                       // ASIMDDP
bool runs_neon_i8mm() noexcept { return runs_neon() && (getauxval(AT_HWCAP2) >> 13 & 1UL) != 0; }  // I8MM

#elif defined(__aarch64__) && defined(__APPLE__)

bool has(const char* feature) noexcept {
  int value = 0;
  std::size_t bytes = sizeof value;
  return sysctlbyname(feature, &value, &bytes, nullptr, 0) == 0 && value != 0;
}

bool runs_neon() noexcept { return has("hw.optional.arm.FEAT_DotProd"); }
bool runs_neon_i8mm() noexcept { return runs_neon() && has("hw.optional.arm.FEAT_I8MM"); }

#endif

}  // namespace

bool streams_unprompted() noexcept {
#if defined(__x86_64__) || (defined(_MSC_VER) && defined(_M_X64))
  const Leaf vendor = cpuid(0, 0);
  return vendor.b == 0x68747541 && vendor.d == 0x69746e65 && vendor.c == 0x444d4163;  // "Auth" "enti" "cAMD"
#else
  return false;
#endif
}

std::size_t second_level_cache_bytes() noexcept {
  constexpr std::size_t kCommon = std::size_t{1} << 20;
#if defined(__linux__) && defined(_SC_LEVEL2_CACHE_SIZE)
  const long bytes = sysconf(_SC_LEVEL2_CACHE_SIZE);
  return bytes > 0 ? static_cast<std::size_t>(bytes) : kCommon;
#elif defined(__APPLE__)
  std::size_t value = 0, bytes = sizeof value;  // shared by the cores of a cluster, larger than needed
  return sysctlbyname("hw.l2cachesize", &value, &bytes, nullptr, 0) == 0 && value > 0 ? value : kCommon;
#else
  return kCommon;
#endif
}

bool processor_runs(Isa isa) noexcept {
  switch (isa) {
    case Isa::kReference:
      return true;
#if defined(__x86_64__) || (defined(_MSC_VER) && defined(_M_X64))
    case Isa::kAvx2:
      return runs_avx2();
    case Isa::kAvxVnni:
      return runs_avxvnni();
    case Isa::kAvx512:
      return runs_avx512();
    case Isa::kAmx:
      return runs_amx();
#elif defined(__aarch64__) && (defined(__linux__) || defined(__APPLE__))
    case Isa::kNeon:
      return runs_neon();
    case Isa::kNeonI8mm:
      return runs_neon_i8mm();
#endif
    default:
      return false;
  }
}

}  // namespace qwen35::cpu
