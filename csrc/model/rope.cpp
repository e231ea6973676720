#include "model/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string>

#include "base/error.h"

namespace qwen35 {
namespace {

constexpr double kMostStretch = 4.0;

double stretch_for(const Config& config, std::size_t context_tokens) {
  const RopeConfig& rope = config.rope;
  if (context_tokens <= config.context_tokens) return rope.factor;
  const double trained = static_cast<double>(rope.original_context);
  const double factor = static_cast<double>(context_tokens) / trained;
  if (factor > std::max(kMostStretch, rope.factor)) {
    const auto most = static_cast<std::size_t>(trained * std::max(kMostStretch, rope.factor));
    throw InputError("context_tokens is " + std::to_string(context_tokens) + ", expected at most " +
                     std::to_string(most) + ": four times the " + std::to_string(rope.original_context) +
                     " tokens this model was trained for");
  }
  return std::max(factor, rope.factor);
}

// The dimension pair that turns `turns` times over the trained context (docs/architecture.md 7).
double pair_of(const RopeConfig& rope, double turns) {
  const double trained = static_cast<double>(rope.original_context);
  return static_cast<double>(rope.dims) * std::log(trained / (turns * 2.0 * std::numbers::pi)) /
         (2.0 * std::log(rope.base));
}

}  // namespace

RopeTable make_rope(const Config& config, std::size_t context_tokens) {
  const RopeConfig& rope = config.rope;
  const double dims = static_cast<double>(rope.dims);
  RopeTable table;
  table.factor = stretch_for(config, context_tokens);
  for (std::size_t i = 0; i < rope.dims / 2; ++i) {
    table.inv_freq.push_back(std::pow(rope.base, -2.0 * static_cast<double>(i) / dims));
  }
  table.magnitude = static_cast<float>(rope.attention_factor * (0.1 * std::log(table.factor) + 1.0));
  if (table.factor == 1.0) return table;

  const double low = std::max(std::floor(pair_of(rope, rope.beta_fast)), 0.0);
  const double high = std::min(std::ceil(pair_of(rope, rope.beta_slow)), dims - 1.0);
  for (std::size_t i = 0; i < table.inv_freq.size(); ++i) {
    const double ramp = std::clamp((static_cast<double>(i) - low) / std::max(high - low, 0.001), 0.0, 1.0);
    table.inv_freq[i] *= 1.0 - ramp + ramp / table.factor;
  }
  return table;
}

}  // namespace qwen35
