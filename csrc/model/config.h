// What a file says about its model, checked: a Config that exists is consistent, and every number in it is in range.
#pragma once

#include <array>
#include <cstddef>
#include <string>

#include "backend/shape.h"
#include "gguf/gguf.h"

namespace qwen35 {

// Rotary positions, YaRN included (docs/architecture.md 7). A factor of 1 is plain RoPE.
struct RopeConfig {
  std::size_t dims;                                      // rotated dimensions of a head, from 0
  std::array<std::uint32_t, 3> sections = {11, 11, 10};  // pairs that turn by time, height and width
  double base;
  double factor = 1.0;
  std::size_t original_context = 0;  // tokens the frequencies were trained for
  double beta_fast = 32.0;
  double beta_slow = 1.0;
  double attention_factor = 1.0;  // multiplies YaRN's own magnitude
};

struct Config : ModelShape {
  std::string architecture;  // "qwen35", "qwen35moe"
  std::string name;
  std::size_t tokens_used = 0;  // ids below this exist in the tokenizer
  float eps = 0;
  RopeConfig rope{};
  std::size_t context_tokens = 0;
};

// The directory is a model's (dialect/model_file.h). Throws FormatError naming the key, what it holds and what was
// expected, also of shapes that the device has no kernels for.
Config read_config(const GgufDirectory& file, const DeviceLimits& limits);

}  // namespace qwen35
