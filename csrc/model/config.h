// What a file says about its model, checked: a Config that exists is consistent, and every number in it is in range.
#pragma once

#include <cstddef>
#include <optional>
#include <string>

#include "backend/backend.h"
#include "gguf/gguf.h"

namespace qwen35 {

struct ExpertShape {
  std::uint32_t experts;     // E
  std::uint32_t top_k;       // K
  std::size_t width;         // F of one expert
  std::size_t shared_width;  // F of the expert that every token passes
};

// Rotary positions, YaRN included (specification 7). A factor of 1 is plain RoPE.
struct RopeConfig {
  std::size_t dims;  // rotated dimensions of a head, from 0
  double base;
  double factor = 1.0;
  std::size_t original_context = 0;  // tokens the frequencies were trained for
  double beta_fast = 32.0;
  double beta_slow = 1.0;
  double attention_factor = 1.0;  // multiplies YaRN's own magnitude
};

struct Config {
  std::string architecture;  // "qwen35", "qwen35moe"
  std::string name;
  std::size_t layers = 0;      // L, without the blocks that predict further tokens
  std::size_t mtp_layers = 0;  // those blocks, always of the attention kind
  std::size_t attention_interval = 0;
  std::size_t hidden = 0;        // D
  std::size_t vocabulary = 0;    // V, padding rows included
  std::size_t tokens_used = 0;   // ids below this exist in the tokenizer
  std::size_t feed_forward = 0;  // F of a dense block; 0 with experts
  std::optional<ExpertShape> moe;
  AttentionShape attention{};
  DeltaShape delta{};
  float eps = 0;
  RopeConfig rope{};
  std::size_t context_tokens = 0;

  bool is_attention(std::size_t layer) const noexcept {
    return layer >= layers || (layer + 1) % attention_interval == 0;
  }
  std::size_t attention_layers() const noexcept { return layers / attention_interval; }
  std::size_t delta_layers() const noexcept { return layers - attention_layers(); }
  std::size_t conv_channels() const noexcept {  // C
    return 2 * std::size_t{delta.key_heads} * delta.key_width + delta_width();
  }
  std::size_t delta_width() const noexcept { return std::size_t{delta.value_heads} * delta.value_width; }
  std::size_t query_width() const noexcept { return std::size_t{attention.heads} * attention.width; }
  std::size_t kv_width() const noexcept { return std::size_t{attention.kv_heads} * attention.width; }
};

// The directory is a model's (dialect/model_file.h). Throws FormatError naming the key, what it holds and what was
// expected.
Config read_config(const GgufDirectory& file);

}  // namespace qwen35
