// The sizes of a model that a device is told of, in the alphabet of backend.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

namespace qwen35 {

// How keys and values are kept. In the quantised formats (8 bits, 4 bits, keys in 8 and values in 4) both are rotated
// by a Walsh-Hadamard transform over the head.
enum class KvFormat : std::uint8_t { kF32, kF16, kQ8, kQ4, kK8V4 };

inline constexpr std::size_t kKvFormats = 5;

constexpr bool is_quantised(KvFormat format) noexcept { return format >= KvFormat::kQ8; }

struct AttentionShape {
  std::uint32_t heads;     // H
  std::uint32_t kv_heads;  // G
  std::uint32_t width;     // A

  friend bool operator==(const AttentionShape&, const AttentionShape&) = default;
};

struct DeltaShape {
  std::uint32_t key_heads;    // Hk
  std::uint32_t value_heads;  // Hv; value head j reads key head j % Hk (GGUF order, docs/architecture.md 8.4)
  std::uint32_t key_width;    // Dk
  std::uint32_t value_width;  // Dv
  std::uint32_t conv_width;   // taps, 4

  std::size_t values() const noexcept { return std::size_t{value_heads} * value_width; }
  std::size_t channels() const noexcept { return 2 * std::size_t{key_heads} * key_width + values(); }  // C

  friend bool operator==(const DeltaShape&, const DeltaShape&) = default;
};

struct ExpertShape {
  std::uint32_t experts;     // E
  std::uint32_t top_k;       // K
  std::size_t width;         // F of one expert
  std::size_t shared_width;  // F of the expert that every token passes
};

struct ModelShape {
  std::size_t layers = 0;      // L, without the blocks that predict further tokens
  std::size_t mtp_layers = 0;  // those blocks, always of the attention kind
  std::size_t attention_interval = 0;
  std::size_t hidden = 0;        // D
  std::size_t vocabulary = 0;    // V, padding rows included
  std::size_t feed_forward = 0;  // F of a dense block; 0 with experts
  std::optional<ExpertShape> moe;
  AttentionShape attention{};
  DeltaShape delta{};

  bool is_attention(std::size_t layer) const noexcept {
    return layer >= layers || (layer + 1) % attention_interval == 0;
  }
  std::size_t attention_layers() const noexcept { return layers / attention_interval; }
  std::size_t delta_layers() const noexcept { return layers - attention_layers(); }
  // Of a layer among those whose mixer is of the same kind; the blocks that predict come last.
  std::size_t mixer_index(std::size_t layer) const noexcept {
    if (layer >= layers) return attention_layers() + layer - layers;
    return is_attention(layer) ? layer / attention_interval : layer - layer / attention_interval;
  }
  // Whether a block that predicts drafts, where so many rows of a pass may be taken back.
  bool drafts(std::size_t uncertain) const noexcept { return mtp_layers > 0 && uncertain > 0; }
  std::size_t conv_channels() const noexcept { return delta.channels(); }
  std::size_t delta_width() const noexcept { return delta.values(); }
  std::size_t query_width() const noexcept { return std::size_t{attention.heads} * attention.width; }
  std::size_t kv_width() const noexcept { return std::size_t{attention.kv_heads} * attention.width; }
};

// The shapes a device has kernels for.
struct DeviceLimits {
  std::uint32_t query_heads;  // the most query heads of one key/value head, H / G
  std::uint32_t head_unit;    // A is a multiple of this
  std::uint32_t conv_width;   // the one number of taps
  std::uint32_t value_unit;   // Dv is a multiple of this
};

}  // namespace qwen35
