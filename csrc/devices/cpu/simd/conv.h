// conv_silu on the vectors of an Isa trait V: the operations of reference/conv.cpp in the same order, so the same bits.
#pragma once

#include <cstring>

#include "devices/cpu/kernels.h"
#include "devices/cpu/simd/math.h"

namespace qwen35::cpu {
namespace {

template <class V>
struct Conv {
  using F = typename V::F;
  static constexpr std::size_t kBlock = 64;  // channels whose taps are held side by side
  static constexpr std::size_t kKept = kConvTaps - 1;
  static constexpr std::size_t kAhead = 8;  // rows

  struct Block {
    float taps[kConvTaps][kBlock];
  };

  // Row t of [the window's rows before x; x], at the block's first channel.
  static const float* row(const ConvArgs& args, std::size_t first, std::size_t t) noexcept {
    return t < kKept ? args.window + (args.accepted + t) * args.channels + first
                     : args.x + (t - kKept) * args.stride + first;
  }

  static F convolve(const Block& block, const float* const (&rows)[kConvTaps], std::size_t c, std::size_t n) noexcept {
    const auto load = [n](const float* p) { return n == V::kWidth ? V::load(p) : V::load_first(p, n); };
    F sum = V::mul(load(rows[0] + c), V::load(block.taps[0] + c));
    for (std::size_t j = 1; j < kConvTaps; ++j) sum = V::fma(load(rows[j] + c), V::load(block.taps[j] + c), sum);
    return silu_of<V>(sum);
  }

  static void run_block(const ConvArgs& args, std::size_t first, std::size_t n) noexcept {
    Block block;
    if (n < kBlock) block = {};
    for (std::size_t c = 0; c < n; ++c) {
      for (std::size_t j = 0; j < kConvTaps; ++j) block.taps[j][c] = args.kernel[(first + c) * kConvTaps + j];
    }
    for (std::size_t t = 0; t < args.rows; ++t) {
      const float* const rows[kConvTaps] = {row(args, first, t), row(args, first, t + 1), row(args, first, t + 2),
                                            row(args, first, t + 3)};
      float* out = args.out + t * args.out_stride + first;
      // Rows of a wide batch lie pages apart: nothing else fetches them ahead.
      if (t + kAhead < args.rows) prefetch_row<V>(args.x + (t + kAhead) * args.stride + first, n);
      std::size_t c = 0;
      for (; c + V::kWidth <= n; c += V::kWidth) V::store(out + c, convolve(block, rows, c, V::kWidth));
      if (c < n) V::store_first(out + c, convolve(block, rows, c, n - c), n - c);
    }
    for (std::size_t j = 0; j < kKept + args.rows - args.certain; ++j) {  // a row moves down or stays: none is lost
      std::memmove(args.window + j * args.channels + first, row(args, first, args.certain + j), n * sizeof(float));
    }
  }

  static void conv_silu(const ConvArgs& args) noexcept {
    for (std::size_t c = 0; c < args.count; c += kBlock) {
      run_block(args, c, args.count - c < kBlock ? args.count - c : kBlock);
    }
  }

  static void add_to(Table& table) noexcept { table.conv_silu = conv_silu; }
};

}  // namespace
}  // namespace qwen35::cpu
