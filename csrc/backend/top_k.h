// The k most likely tokens of a row of logits under bias, penalties and a grammar: what a device is asked for, and how
// it is done where the row lies in the host's memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace qwen35 {

// A token, its logit after bias and penalties, fp64, and as the model gave it.
struct Candidate {
  double logit;
  std::int32_t id;
  float given;
};

// The more likely candidate first; of equal ones the lower id.
struct MoreLikely {
  bool operator()(const Candidate& a, const Candidate& b) const noexcept {
    return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
  }
};

// A token whose logit changes: bias is added; then, unless count is 0, the penalties below apply.
struct EditedToken {
  std::int32_t id;
  std::uint32_t count;  // how often it stands in the window of the penalties
  double bias;
};

// With x = logit + bias: x / repetition where x > 0, else x * repetition (Keskar et al. 2019, CTRL, section 4.1); then
// minus presence + frequency * count. All in fp64, in this order.
struct LogitEdits {
  std::span<const EditedToken> tokens = {};  // each id once, in any order
  double repetition = 1.0;
  double presence = 0.0;
  double frequency = 0.0;
  std::span<const std::uint32_t> allowed = {};  // a grammar's mask: bit i % 32 of word i / 32; empty: every token

  double apply(float logit, const EditedToken& token) const noexcept {
    double x = static_cast<double>(logit) + token.bias;
    if (token.count != 0) {
      x = x > 0.0 ? x / repetition : x * repetition;
      x -= presence + frequency * token.count;
    }
    return x;
  }
  bool allows(std::int32_t id) const noexcept {
    const auto i = static_cast<std::size_t>(id);
    return allowed.empty() || (i / 32 < allowed.size() && (allowed[i / 32] >> i % 32 & 1U) != 0);
  }
};

// More than a device has to find: who wants so many asks for the row.
inline constexpr std::size_t kMostTopK = 1024;

// Every token whose edited logit is not -inf, in order of id. Throws InputError naming the first logit that is NaN or
// +inf.
void all_candidates(std::vector<Candidate>& out, std::span<const float> row, const LogitEdits& edits);

// log(sum(exp(row))), in fp64 and in order of id; -inf where every logit is.
double log_sum_exp(std::span<const float> row) noexcept;

class TopK {
 public:
  // Room for a row of so many logits: select() then allocates nothing.
  void reserve(std::size_t logits);
  // The k best of these, the most likely first; fewer where there are no more. Overwrites the row. Valid until the next
  // call. Throws InputError like all_candidates.
  std::span<const Candidate> select(std::span<float> row, std::size_t k, const LogitEdits& edits);

 private:
  std::vector<Candidate> candidates_;
  std::vector<float> largest_;  // of each block of logits
  std::vector<float> ranked_;   // the same in some order
};

}  // namespace qwen35
