// The inner loops of gemm.cpp, written once over a vector type and compiled once for each instruction set
// (gemm_<isa>.cpp). Everything here is internal to the file that includes it: a shared inline function compiled with
// one set's flags could be picked by the linker for every machine.
#pragma once

#include <cstddef>
#include <cstring>

#include "quantise/gemm_kernels.h"

namespace qwen35 {
namespace {

// V: a vector of floats, or float itself. kRows x kVectors sums must fit the registers beside one row of b.
template <class V, std::size_t kRows, std::size_t kVectors>
struct GemmTile {
  static constexpr std::size_t kWidth = sizeof(V) / sizeof(float);
  static constexpr std::size_t kCols = kVectors * kWidth;

  static V load(const float* from) noexcept {
    V v;
    std::memcpy(&v, from, sizeof v);
    return v;
  }
  static void add_to(float* to, V v) noexcept {
    const V total = load(to) + v;
    std::memcpy(to, &total, sizeof total);
  }

  static void multiply(std::size_t depth, const float* a, const float* b, float* c, std::size_t stride) noexcept {
    V sums[kRows][kVectors] = {};
    for (std::size_t k = 0; k < depth; ++k, a += kRows, b += kCols) {
      V row[kVectors];
      for (std::size_t v = 0; v < kVectors; ++v) row[v] = load(b + v * kWidth);
      for (std::size_t i = 0; i < kRows; ++i) {
        for (std::size_t v = 0; v < kVectors; ++v) sums[i][v] += a[i] * row[v];
      }
    }
    for (std::size_t i = 0; i < kRows; ++i) {
      for (std::size_t v = 0; v < kVectors; ++v) add_to(c + i * stride + v * kWidth, sums[i][v]);
    }
  }

  static void combine(std::size_t depth, const float* a, std::size_t a_stride, const float* rows, float* sum) noexcept {
    constexpr std::size_t kAtOnce = 64 < 4 * kWidth ? 64 : 4 * kWidth;
    for (std::size_t from = 0; from < kRowTile; from += kAtOnce) {
      V sums[kAtOnce / kWidth] = {};
      for (std::size_t k = 0; k < depth; ++k) {
        for (std::size_t v = 0; v < kAtOnce / kWidth; ++v) {
          sums[v] += a[k * a_stride] * load(rows + k * kRowTile + from + v * kWidth);
        }
      }
      for (std::size_t v = 0; v < kAtOnce / kWidth; ++v) add_to(sum + from + v * kWidth, sums[v]);
    }
  }
};

template <std::size_t kCount>
void copy_panels(std::size_t panels, std::size_t depth, const float* from, std::size_t stride, float* to) noexcept {
  for (std::size_t k = 0; k < depth; ++k) {
    for (std::size_t p = 0; p < panels; ++p) {
      std::memcpy(to + (p * depth + k) * kCount, from + k * stride + p * kCount, kCount * sizeof(float));
    }
  }
}

template <class Tile, std::size_t kRows>
constexpr GemmKernels gemm_kernels_of(const char* name) noexcept {
  return {name, kRows, Tile::kCols, Tile::multiply, copy_panels<kRows>, copy_panels<Tile::kCols>, Tile::combine};
}

}  // namespace
}  // namespace qwen35
