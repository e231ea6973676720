// What the comparisons of tests/native share: random numbers that are the same everywhere, and "the same bits".
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <vector>

#include "devices/cpu/isa.h"

namespace qwen35::twins {

class Random {  // splitmix64
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}

  std::uint32_t bits() noexcept {
    std::uint64_t z = state_ += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return static_cast<std::uint32_t>(z >> 32);
  }
  // In [first, last].
  std::size_t between(std::size_t first, std::size_t last) noexcept { return first + bits() % (last - first + 1); }
  float uniform(float low, float high) noexcept {
    return low + (high - low) * (static_cast<float>(bits() >> 8) * 0x1p-24f);
  }
  std::vector<float> floats(std::size_t count, float scale = 1.0f) {
    std::vector<float> x(count);
    for (float& v : x) v = uniform(-scale, scale);
    return x;
  }

 private:
  std::uint64_t state_;
};

// Counts what was compared, and says where the first difference is.
class Comparison {
 public:
  explicit Comparison(cpu::Isa isa) noexcept
      : ours(cpu::kernels(isa)), twin(cpu::kernels(cpu::Isa::kReference)), isa_(cpu::isa_name(isa)) {}

  const cpu::Table& ours;
  const cpu::Table& twin;

  std::size_t compared() const noexcept { return compared_; }
  bool is_same() const noexcept { return is_same_; }

  void same(const char* kernel, const std::vector<float>& got, const std::vector<float>& expected) noexcept {
    const auto differs = [](float a, float b) {
      return std::bit_cast<std::uint32_t>(a) != std::bit_cast<std::uint32_t>(b) && !(std::isnan(a) && std::isnan(b));
    };
    for (std::size_t i = 0; i < expected.size(); ++i) {
      if (differs(got[i], expected[i])) return report(kernel, i, double{got[i]}, double{expected[i]});
    }
    ++compared_;
  }

  template <class T>
  void same_bytes(const char* kernel, const std::vector<T>& got, const std::vector<T>& expected) noexcept {
    const auto* a = reinterpret_cast<const unsigned char*>(got.data());
    const auto* b = reinterpret_cast<const unsigned char*>(expected.data());
    for (std::size_t i = 0; i < expected.size() * sizeof(T); ++i) {
      if (a[i] != b[i]) return report(kernel, i, a[i], b[i]);
    }
    ++compared_;
  }

 private:
  void report(const char* kernel, std::size_t at, double got, double expected) noexcept {
    if (is_same_) std::printf("%s: %s: [%zu] is %.9g, expected %.9g\n", isa_, kernel, at, got, expected);
    is_same_ = false;
  }

  const char* isa_;
  std::size_t compared_ = 0;
  bool is_same_ = true;
};

bool workers_share();                // workers.cpp
bool foreign_weights_are_refused();  // foreign_weight.cpp
bool passes_allocate_nothing();      // pass_allocations.cpp
void compare_matmul(Comparison& c);  // matmul_twins.cpp
void compare_rows(Comparison& c);    // row_twins.cpp

}  // namespace qwen35::twins
