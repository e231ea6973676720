// Logits to a token: bias, penalties, grammar mask, top-k, top-p, min-p, temperature, in this order. A sampler stands
// beside a sequence and is told each token once; the random stream is the same on every machine for a seed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "backend/backend.h"
#include "backend/top_k.h"

namespace qwen35 {

struct SamplerOptions {
  double temperature = 1.0;  // 0: the most likely token
  std::size_t top_k = 0;     // 0: all
  double top_p = 1.0;        // the fewest tokens that together have this probability
  double min_p = 0.0;        // relative to the most likely token
  double repetition_penalty = 1.0;
  double presence_penalty = 0.0;
  double frequency_penalty = 0.0;
  std::size_t penalty_last_n = std::numeric_limits<std::size_t>::max();  // accepted tokens that penalties look at
  std::vector<std::pair<Token, double>> bias;
  std::uint64_t seed = 0;
  std::optional<std::size_t> tokens_used;  // ids from here on do not exist
  std::vector<Token> stop_ids;
};

// SplitMix64 (Steele, Lea, Flood 2014) as a function of a counter, so that any number of draws can be taken back.
class Random {
 public:
  explicit Random(std::uint64_t seed) noexcept : seed_(seed) {}
  std::uint64_t draws() const noexcept { return draws_; }
  void rewind(std::uint64_t draws) noexcept { draws_ = draws; }
  double unit() noexcept {  // [0, 1)
    std::uint64_t z = seed_ + ++draws_ * 0x9e3779b97f4a7c15U;
    z = (z ^ (z >> 30U)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27U)) * 0x94d049bb133111ebU;
    return static_cast<double>((z ^ (z >> 31U)) >> 11U) * 0x1.0p-53;
  }

 private:
  std::uint64_t seed_;
  std::uint64_t draws_ = 0;
};

using Logprobs = std::vector<std::pair<Token, double>>;  // natural logarithms, the most likely first

// Of the distribution before bias, penalties and cuts: one token's, and those of the most likely ones.
struct TokenLogprobs {
  double token;
  Logprobs top;
};

// A token that was drawn, and its logit before bias and penalties.
struct Drawn {
  Token token;
  float logit;
};

struct Sampled {
  Token token;
  bool is_stop;  // one of the sampler's stop_ids
  std::optional<TokenLogprobs> logprobs;
};

class Sampler {  // used by one thread at a time; a copy goes on by itself
 public:
  // Throws InputError naming the option that cannot be.
  explicit Sampler(SamplerOptions options);

  std::uint64_t seed() const noexcept { return options_.seed; }
  bool is_stop(Token token) const noexcept;
  std::size_t accepted() const noexcept { return accepted_.size(); }

  // Tokens that the penalties count from now on. Throws InputError on a negative id.
  void accept(std::span<const Token> tokens);
  // As it was when the n-th token had just been accepted, but for the mask. Throws InputError when fewer were.
  void rewind(std::size_t n);
  // One bit per token in words of 32; empty: every token. What lies beyond the words is excluded. The first mask is for
  // the next token that is drawn and accepted, and so on, the last for all behind it; until the next call.
  void set_masks(std::vector<std::vector<std::uint32_t>> masks) {
    masks_ = std::move(masks);
    next_mask_ = 0;
  }

  // Draws from a row of logits in the host's memory. Throws InputError when a logit is NaN or +inf, when no token is
  // left, or when a biased or accepted id is outside the logits.
  Token sample(std::span<const float> logits);

  // Draws and accepts; with the logprobs of the token and of the n most likely ones, where they are asked for.
  Sampled next(std::span<const float> logits, std::optional<std::size_t> n_logprobs);

  // The same in parts. How many of a row's logits belong to tokens that exist: the draw is from these.
  std::size_t existing(std::size_t logits) const;
  // How many of the best candidates the draw needs, up to kMostTopK; nothing: all of them.
  std::optional<std::size_t> candidates_needed() const noexcept;
  LogitEdits edits(std::size_t existing) const;
  Drawn draw(std::span<const Candidate> best);

  Sampled accept_drawn(Token token, std::optional<TokenLogprobs> logprobs);
  TokenLogprobs logprobs(std::span<const float> logits, Token token, std::size_t n) const;
  Logprobs top_logprobs(std::span<const float> logits, std::size_t n) const;

 private:
  struct Accepted {
    Token token;
    std::uint64_t draws;  // of the random stream by then
  };

  bool penalises() const noexcept;
  void count(Token token, std::uint32_t change);
  Drawn draw_candidate();
  void keep_top_k();
  void sort_by_id();
  void keep_top_p();
  void keep_min_p();

  SamplerOptions options_;
  Random random_;
  std::vector<Accepted> accepted_;
  std::vector<EditedToken> edited_;               // the tokens that have a bias or stand in the window
  std::unordered_map<Token, std::size_t> place_;  // of each in edited_
  std::vector<std::vector<std::uint32_t>> masks_;
  std::size_t next_mask_ = 0;
  std::vector<Candidate> candidates_;
  std::vector<Candidate> best_;
  std::vector<float> row_;
  TopK top_k_;
};

}  // namespace qwen35
