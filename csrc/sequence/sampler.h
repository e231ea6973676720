// Logits to a token: bias, penalties, top-k, top-p, min-p, temperature, in this order. Pure over its arguments but for
// the random stream, which is the same on every machine for a seed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "backend/backend.h"

namespace qwen35 {

struct SamplerOptions {
  double temperature = 1.0;  // 0: the most likely token
  std::size_t top_k = 0;     // 0: all
  double top_p = 1.0;        // the fewest tokens that together have this probability
  double min_p = 0.0;        // relative to the most likely token
  double repetition_penalty = 1.0;
  double presence_penalty = 0.0;
  double frequency_penalty = 0.0;
  std::optional<std::size_t> penalty_last_n;  // all of the history when not given
  std::vector<std::pair<Token, double>> bias;
  std::uint64_t seed = 0;
  std::optional<std::size_t> tokens_used;  // ids from here on do not exist
};

// SplitMix64 (Steele, Lea, Flood 2014).
class Random {
 public:
  explicit Random(std::uint64_t seed) noexcept : state_(seed) {}
  std::uint64_t next() noexcept {
    state_ += 0x9e3779b97f4a7c15U;
    std::uint64_t z = state_;
    z = (z ^ (z >> 30U)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27U)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31U);
  }
  double unit() noexcept { return static_cast<double>(next() >> 11U) * 0x1.0p-53; }  // [0, 1)

 private:
  std::uint64_t state_;
};

class Sampler {
 public:
  // Throws InputError naming the option that cannot be.
  explicit Sampler(SamplerOptions options);

  std::uint64_t seed() const noexcept { return options_.seed; }

  // Throws InputError when a logit is NaN or +inf, when no token is left, or when an id is outside the logits.
  Token sample(std::span<const float> logits, std::span<const Token> history);

  // Most likely first, natural logarithms of the distribution before bias, penalties and cuts.
  std::vector<std::pair<Token, double>> top_logprobs(std::span<const float> logits, std::size_t n) const;

 private:
  struct Candidate {
    double logit;
    Token id;
  };

  std::span<const float> existing(std::span<const float> logits) const;
  void collect(std::span<const float> logits, std::span<const Token> seen);
  Candidate* find(Token id) noexcept;
  void apply_bias();
  void apply_penalties(std::span<const Token> seen);
  void keep_top_k();
  void sort_by_id();
  void keep_top_p();
  void keep_min_p();
  Token draw();

  SamplerOptions options_;
  Random random_;
  std::vector<Candidate> candidates_;  // by id, until they are cut down to top_k
  std::vector<Candidate> best_;
  std::vector<float> largest_;         // of each block of logits
  std::vector<float> ranked_;          // the same in some order
  std::vector<Token> adjusted_;        // ids that bias or penalties change
  std::vector<std::uint32_t> counts_;  // of each id in the history; zero between calls
  std::mutex mutex_;                   // sampling moves the random stream
};

}  // namespace qwen35
