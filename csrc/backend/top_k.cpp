#include "backend/top_k.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <string>

#include "base/error.h"

namespace qwen35 {
namespace {

constexpr std::size_t kBlock = 64;  // logits whose largest is kept: some 4,000 blocks in a vocabulary of 250,000
constexpr float kExcluded = -std::numeric_limits<float>::infinity();
constexpr double kImpossible = -std::numeric_limits<double>::infinity();

std::span<float> block(std::span<float> row, std::size_t i) noexcept {
  return row.subspan(i * kBlock, std::min(kBlock, row.size() - i * kBlock));
}

// In lanes, which compilers keep in vectors.
float largest_of(std::span<const float> logits) noexcept {
  constexpr std::size_t kLanes = 16;
  float largest[kLanes];
  std::ranges::fill(largest, kExcluded);
  std::size_t i = 0;
  for (; i + kLanes <= logits.size(); i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      const float logit = logits[i + lane];
      largest[lane] = logit > largest[lane] ? logit : largest[lane];
    }
  }
  for (; i < logits.size(); ++i) largest[0] = std::max(largest[0], logits[i]);
  return *std::ranges::max_element(largest);
}

void check_numbers(std::span<const float> row) {
  constexpr float kMost = std::numeric_limits<float>::max();
  std::uint32_t unsound = 0;  // one pass without a branch, as wide as a logit
  for (const float logit : row) unsound |= logit <= kMost ? 0U : 1U;
  for (std::size_t i = 0; unsound != 0 && i < row.size(); ++i) {
    if (row[i] <= kMost) continue;
    throw InputError("logit of token " + std::to_string(i) + " is " + (std::isnan(row[i]) ? "NaN" : "+inf") +
                     ", expected a number or -inf; the model's weights may be damaged");
  }
}

// Edited tokens become candidates and leave the row; so do tokens that the mask excludes. What is left is unedited.
void edit(std::vector<Candidate>& candidates, std::span<float> row, const LogitEdits& edits) {
  check_numbers(row);
  candidates.clear();
  for (const EditedToken& token : edits.tokens) {
    float& logit = row[static_cast<std::size_t>(token.id)];
    const double edited = edits.apply(logit, token);
    if (edited != kImpossible && edits.allows(token.id)) candidates.push_back({edited, token.id, logit});
    logit = kExcluded;
  }
  if (edits.allowed.empty()) return;
  for (std::size_t first = 0; first < row.size(); first += 32) {
    const std::uint32_t word = first / 32 < edits.allowed.size() ? edits.allowed[first / 32] : 0;
    if (word == std::numeric_limits<std::uint32_t>::max()) continue;
    for (std::size_t i = first; i < std::min(first + 32, row.size()); ++i) {
      if ((word >> (i - first) & 1U) == 0) row[i] = kExcluded;
    }
  }
}

}  // namespace

void all_candidates(std::vector<Candidate>& out, std::span<const float> row, const LogitEdits& edits) {
  check_numbers(row);
  out.resize(row.size());
  for (std::size_t i = 0; i < row.size(); ++i) out[i] = {row[i], static_cast<std::int32_t>(i), row[i]};
  for (const EditedToken& token : edits.tokens) {
    const auto i = static_cast<std::size_t>(token.id);
    out[i].logit = edits.apply(row[i], token);
  }
  std::erase_if(out, [&](const Candidate& c) { return c.logit == kImpossible || !edits.allows(c.id); });
}

double log_sum_exp(std::span<const float> row) noexcept {
  const double largest = largest_of(row);
  if (largest == kImpossible) return kImpossible;
  double sum = 0.0;
  for (const float logit : row) sum += std::exp(static_cast<double>(logit) - largest);
  return largest + std::log(sum);
}

void TopK::reserve(std::size_t logits) {
  candidates_.reserve(logits);
  largest_.reserve((logits + kBlock - 1) / kBlock);
  ranked_.reserve(largest_.capacity());
}

// The k-th largest of the blocks' largest logits has k logits at or above it, so that no logit below it is among the k
// best: of a large vocabulary few blocks are looked at twice.
std::span<const Candidate> TopK::select(std::span<float> row, std::size_t k, const LogitEdits& edits) {
  edit(candidates_, row, edits);
  const std::size_t blocks = (row.size() + kBlock - 1) / kBlock;
  largest_.resize(blocks);
  for (std::size_t b = 0; b < blocks; ++b) largest_[b] = largest_of(block(row, b));
  float least = kExcluded;
  if (k != 0 && k <= blocks) {
    ranked_ = largest_;
    const auto place = ranked_.begin() + static_cast<std::ptrdiff_t>(k - 1);
    std::nth_element(ranked_.begin(), place, ranked_.end(), std::greater<>{});
    least = *place;
  }
  for (std::size_t b = 0; b < blocks; ++b) {
    if (largest_[b] < least || largest_[b] == kExcluded) continue;
    for (std::size_t i = b * kBlock; i < std::min((b + 1) * kBlock, row.size()); ++i) {
      if (row[i] >= least && row[i] != kExcluded) candidates_.push_back({row[i], static_cast<std::int32_t>(i), row[i]});
    }
  }
  const std::size_t found = std::min(k, candidates_.size());
  std::ranges::partial_sort(candidates_, candidates_.begin() + static_cast<std::ptrdiff_t>(found), MoreLikely{});
  return {candidates_.data(), found};
}

}  // namespace qwen35
