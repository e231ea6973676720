// Rotation frequencies for the context that was asked for: plain, or scaled by YaRN (Peng et al. 2023).
#pragma once

#include <cstddef>
#include <vector>

#include "model/config.h"

namespace qwen35 {

struct RopeTable {
  std::vector<double> inv_freq;  // [dims / 2]
  float magnitude = 1.0F;
  double factor = 1.0;  // 1: plain
};

// Beyond the model's own context YaRN is switched on, or its factor raised. Throws InputError beyond four times the
// trained length: the family is published for that much and no more.
RopeTable make_rope(const Config& config, std::size_t context_tokens);

}  // namespace qwen35
