// Scalar twin of route. The largest logits are the largest probabilities, and renormalising the chosen ones cancels
// the sum over all experts, so only the chosen are exponentiated. docs/architecture.md 4.
#include "devices/cpu/kernels.h"
#include "devices/cpu/math.h"

namespace qwen35::cpu {
namespace {

// Whether logit a at index i goes before b at index j. A NaN goes last, so that the order is total.
bool goes_before(float a, std::size_t i, float b, std::size_t j) noexcept {
  const bool a_is_number = a == a, b_is_number = b == b;
  if (a_is_number != b_is_number) return a_is_number;
  if (a_is_number && a != b) return a > b;
  return i < j;
}

// Insertion into a sorted list: K is 8 or 10 of 256 or 512, and nearly every logit fails the first comparison.
void route(std::int32_t* experts, float* weights, const float* logits, std::size_t count, std::size_t top_k) noexcept {
  std::size_t found = 0;
  for (std::size_t e = 0; e < count; ++e) {
    std::size_t at = found;
    while (at > 0) {
      const auto other = static_cast<std::size_t>(experts[at - 1]);
      if (!goes_before(logits[e], e, logits[other], other)) break;
      if (at < top_k) experts[at] = experts[at - 1];
      --at;
    }
    if (at < top_k) experts[at] = static_cast<std::int32_t>(e);
    if (found < top_k) ++found;
  }
  const float largest = logits[experts[0]];
  float sum = 0.0F;
  for (std::size_t i = 0; i < top_k; ++i) {
    weights[i] = exp(logits[experts[i]] - largest);
    sum += weights[i];
  }
  for (std::size_t i = 0; i < top_k; ++i) weights[i] /= sum;
}

}  // namespace

void add_reference_route(Table& table) noexcept { table.route = route; }

}  // namespace qwen35::cpu
