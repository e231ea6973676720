#include "devices/cpu/cpu_backend.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/error.h"

namespace qwen35::cpu {
namespace {

// Elements of a row operation that are worth waking one more worker for: some ten microseconds.
constexpr std::size_t kGrain = 1 << 16;

constexpr float kUnitEpsilon = 1e-6F;  // added to the sum of squares, specification 2.3

// Of conv_silu: whole cache lines, and enough of a row for the hardware to prefetch.
constexpr std::size_t kChannelBlock = 64;

class CpuBuffer final : public Buffer {
 public:
  CpuBuffer(std::shared_ptr<std::byte> memory, std::size_t bytes) : data_(std::move(memory)), bytes_(bytes) {
    std::memset(data_.get(), 0, bytes);
  }

  std::byte* data() noexcept override { return data_.get(); }
  std::size_t bytes() const noexcept override { return bytes_; }

 private:
  std::shared_ptr<std::byte> data_;
  std::size_t bytes_;
};

std::size_t rows_per_worker(std::size_t cols) {
  return std::max<std::size_t>(1, kGrain / std::max<std::size_t>(1, cols));
}

void check(const DeltaShape& shape) {
  if (shape.conv_width != kConvTaps) {
    throw Error("linear_conv_kernel_dim is " + std::to_string(shape.conv_width) + "; this runtime expects " +
                std::to_string(kConvTaps));
  }
  if (shape.value_width % kValueTile != 0 || shape.key_heads == 0 || shape.value_heads % shape.key_heads != 0) {
    throw Error("delta memory of " + std::to_string(shape.value_heads) + " value heads over " +
                std::to_string(shape.key_heads) + " key heads, value width " + std::to_string(shape.value_width) +
                ": expected whole groups of heads and a width that is a multiple of " + std::to_string(kValueTile));
  }
}

// What every value head of one key head shares for a row, and the gates of each value head.
struct DeltaUnits {
  float* units;      // [T, Hk, 2, Dk]: query, key
  float* query_key;  // [T, Hk]
  float* decay;      // [T, Hv]
  float* beta;       // [T, Hv]
};

}  // namespace

static_assert(kPageSlots == kPageTokens && kKeySpan % kPageTokens == 0 && kPageTokens % kKeyTile == 0);

std::byte* Scratch::grow(std::size_t bytes) {
  if (bytes > bytes_) {
    memory_.reset();
    bytes_ = 0;
    memory_ = allocate_bytes(bytes);
    bytes_ = bytes;
  }
  return memory_.get();
}

CpuBackend::CpuBackend(Isa isa, unsigned threads)
    : table_(kernels(isa)), name_(std::string("cpu-") + isa_name(isa)), workers_(threads) {}

std::unique_ptr<Buffer> CpuBackend::allocate(std::size_t bytes) {
  return std::make_unique<CpuBuffer>(pool_.take(bytes), bytes);
}

void CpuBackend::copy(std::byte* to, const std::byte* from, std::size_t bytes) { std::memcpy(to, from, bytes); }
void CpuBackend::upload(std::byte* to, const std::byte* from, std::size_t bytes) { std::memcpy(to, from, bytes); }
void CpuBackend::download(std::byte* to, const std::byte* from, std::size_t bytes) { std::memcpy(to, from, bytes); }

void CpuBackend::rms_norm(Tensor out, Tensor x, const float* weight, float eps) {
  const auto turn = take_turn();
  const auto rows = [&](std::size_t begin, std::size_t end, unsigned) {
    for (std::size_t t = begin; t < end; ++t) {
      table_.rms_norm(out.data + t * out.stride, x.data + t * x.stride, weight, x.cols, eps);
    }
  };
  workers_.each(x.rows, rows, rows_per_worker(x.cols));
}

// Workers take channels, and each goes through every segment: equal shares, however long the segments are.
void CpuBackend::conv_silu(Tensor qkv, const float* kernel, const DeltaShape& shape,
                           std::span<const DeltaSegment> segments) {
  check(shape);
  const auto turn = take_turn();
  const std::size_t blocks = (qkv.cols + kChannelBlock - 1) / kChannelBlock;
  const auto channels = [&](std::size_t begin, std::size_t end, unsigned) {
    for (const DeltaSegment& s : segments) {
      const ConvArgs args{qkv.data + s.first * qkv.stride, s.count, qkv.stride, s.window, kernel, qkv.cols};
      table_.conv_silu(args, begin * kChannelBlock, std::min(end * kChannelBlock, qkv.cols));
    }
  };
  workers_.each(blocks, channels, rows_per_worker(kChannelBlock * qkv.rows));
}

void CpuBackend::gated_delta_rule(Tensor out, Tensor qkv, Tensor a, Tensor b, const float* a_neg, const float* dt_bias,
                                  const DeltaShape& shape, std::span<const DeltaSegment> segments) {
  check(shape);
  const auto turn = take_turn();
  const std::size_t rows = qkv.rows, key_heads = shape.key_heads, value_heads = shape.value_heads;
  const std::size_t dk = shape.key_width, dv = shape.value_width, tiles = dv / kValueTile;
  float* scratch = delta_units_.reserve<float>(rows * (key_heads * (2 * dk + 1) + 2 * value_heads));
  const std::size_t per_row = key_heads * 2 * dk;
  const DeltaUnits u{scratch, scratch + rows * per_row, scratch + rows * (per_row + key_heads),
                     scratch + rows * (per_row + key_heads + value_heads)};

  const auto prepare = [&](std::size_t begin, std::size_t end, unsigned) {
    const float query_scale = 1.0F / std::sqrt(static_cast<float>(dk));
    for (std::size_t item = begin; item < end; ++item) {
      const std::size_t t = item / key_heads, h = item % key_heads;
      const float* row = qkv.data + t * qkv.stride;
      float* unit = u.units + item * 2 * dk;
      table_.unit_length(unit, row + h * dk, dk, query_scale, kUnitEpsilon);
      table_.unit_length(unit + dk, row + (key_heads + h) * dk, dk, 1.0F, kUnitEpsilon);
      u.query_key[item] = table_.dot(unit, unit + dk, dk);
      if (h != 0) continue;
      table_.delta_gates(u.decay + t * value_heads, u.beta + t * value_heads, a.data + t * a.stride,
                         b.data + t * b.stride, a_neg, dt_bias, value_heads);
    }
  };
  workers_.each(rows * key_heads, prepare, rows_per_worker(2 * dk));

  const auto advance = [&](std::size_t begin, std::size_t end, unsigned) {
    for (std::size_t item = begin; item < end; ++item) {
      const std::size_t head = item / tiles, column = item * kValueTile;
      for (const DeltaSegment& s : segments) {
        const std::size_t unit = s.first * key_heads + head % key_heads, gate = s.first * value_heads + head;
        table_.gated_delta_rule({.memory = s.memory + item * dk * kValueTile,
                                 .query = u.units + unit * 2 * dk,
                                 .key = u.units + unit * 2 * dk + dk,
                                 .query_key = u.query_key + unit,
                                 .value = qkv.data + s.first * qkv.stride + per_row + column,
                                 .decay = u.decay + gate,
                                 .beta = u.beta + gate,
                                 .out = out.data + s.first * out.stride + column,
                                 .rows = s.count,
                                 .width = dk,
                                 .unit_stride = per_row,
                                 .dot_stride = key_heads,
                                 .value_stride = qkv.stride,
                                 .gate_stride = value_heads,
                                 .out_stride = out.stride});
      }
    }
  };
  workers_.each(value_heads * tiles, advance, rows_per_worker(dk * kValueTile / 2 * qkv.rows));
}

void CpuBackend::gated_rms_norm(Tensor x, Tensor z, const float* weight, std::size_t width, float eps) {
  const auto turn = take_turn();
  const std::size_t groups = x.cols / width;
  const auto items = [&](std::size_t begin, std::size_t end, unsigned) {
    for (std::size_t item = begin; item < end;) {
      const std::size_t t = item / groups, g = item % groups, n = std::min(groups - g, end - item);
      table_.gated_rms_norm(x.data + t * x.stride + g * width, z.data + t * z.stride + g * width, weight, n, width,
                            eps);
      item += n;
    }
  };
  workers_.each(x.rows * groups, items, rows_per_worker(4 * width));
}

void CpuBackend::route(std::int32_t* experts, float* weights, Tensor logits, std::uint32_t chosen) {
  if (chosen == 0 || chosen > logits.cols) {
    throw Error("num_experts_per_tok is " + std::to_string(chosen) + "; expected 1 to num_experts, " +
                std::to_string(logits.cols));
  }
  const auto turn = take_turn();
  const auto rows = [&](std::size_t begin, std::size_t end, unsigned) {
    for (std::size_t t = begin; t < end; ++t) {
      table_.route(experts + t * chosen, weights + t * chosen, logits.data + t * logits.stride, logits.cols, chosen);
    }
  };
  workers_.each(logits.rows, rows, rows_per_worker(16 * logits.cols));
}

void CpuBackend::sigmoid_gate(Tensor h, Tensor gate) {
  const auto turn = take_turn();
  const auto rows = [&](std::size_t begin, std::size_t end, unsigned) {
    for (std::size_t t = begin; t < end; ++t) {
      table_.sigmoid_gate(h.data + t * h.stride, gate.data[t * gate.stride], h.cols);
    }
  };
  workers_.each(h.rows, rows, rows_per_worker(h.cols));
}

void CpuBackend::take_rows(Tensor out, Tensor x, std::span<const std::uint32_t> rows) {
  for (std::size_t i = 0; i < rows.size(); ++i) {
    std::memcpy(out.data + i * out.stride, x.data + rows[i] * x.stride, x.cols * sizeof(float));
  }
}

}  // namespace qwen35::cpu
