#include "sequence/sampler.h"

#include <algorithm>
#include <cmath>
#include <sstream>
#include <string>

#include "base/error.h"

namespace qwen35 {
namespace {

constexpr double kImpossible = -std::numeric_limits<double>::infinity();

// Written so that NaN is outside every range.
void require_range(const char* name, double value, double least, double most) {
  if (value >= least && value <= most) return;
  std::ostringstream text;
  text << name << " is " << value << ", expected " << least << " to " << most;
  throw InputError(text.str());
}

}  // namespace

Sampler::Sampler(SamplerOptions options) : options_(std::move(options)), random_(options_.seed) {
  require_range("temperature", options_.temperature, 0.0, 100.0);
  require_range("top_p", options_.top_p, 0.0, 1.0);
  require_range("min_p", options_.min_p, 0.0, 1.0);
  require_range("repetition_penalty", options_.repetition_penalty, 0.01, 100.0);
  require_range("presence_penalty", options_.presence_penalty, -100.0, 100.0);
  require_range("frequency_penalty", options_.frequency_penalty, -100.0, 100.0);
  if (options_.tokens_used && *options_.tokens_used == 0) throw InputError("n_tokens_used is 0, expected at least 1");
  std::ranges::sort(options_.stop_ids);
  for (const auto& [id, bias] : options_.bias) {
    if (id < 0 || (options_.tokens_used && static_cast<std::size_t>(id) >= *options_.tokens_used)) {
      throw InputError("logit_bias names token " + std::to_string(id) + ", which the vocabulary does not have");
    }
    if (bias != kImpossible) require_range("logit_bias", bias, -1e6, 1e6);
    if (!place_.try_emplace(id, edited_.size()).second)
      throw InputError("logit_bias names token " + std::to_string(id) + " twice");
    edited_.push_back({id, 0, bias});
  }
}

bool Sampler::is_stop(Token token) const noexcept { return std::ranges::binary_search(options_.stop_ids, token); }

bool Sampler::penalises() const noexcept {
  const auto& o = options_;
  return (o.repetition_penalty != 1.0 || o.presence_penalty != 0.0 || o.frequency_penalty != 0.0) &&
         o.penalty_last_n > 0;
}

// `change` is 1, or -1 modulo 2^32. A token without a count and a bias is let go of.
void Sampler::count(Token token, std::uint32_t change) {
  if (options_.tokens_used && static_cast<std::size_t>(token) >= *options_.tokens_used) return;
  const auto [entry, is_new] = place_.try_emplace(token, edited_.size());
  if (is_new) edited_.push_back({token, 0, 0.0});
  EditedToken& edited = edited_[entry->second];
  edited.count += change;
  if (edited.count != 0 || edited.bias != 0.0) return;
  place_[edited_.back().id] = entry->second;
  edited = edited_.back();
  edited_.pop_back();
  place_.erase(token);
}

void Sampler::accept(std::span<const Token> tokens) {
  const auto negative = std::ranges::find_if(tokens, [](Token id) { return id < 0; });
  if (negative != tokens.end()) throw InputError("token " + std::to_string(*negative) + " is not a token id");
  const std::size_t last_n = options_.penalty_last_n;
  for (const Token token : tokens) {
    accepted_.push_back({token, random_.draws()});
    if (!penalises()) continue;
    count(token, 1);
    if (accepted_.size() > last_n) count(accepted_[accepted_.size() - 1 - last_n].token, ~0U);
  }
}

void Sampler::rewind(std::size_t n) {
  if (n > accepted_.size()) {
    throw InputError("cannot rewind to " + std::to_string(n) + " tokens, expected at most the " +
                     std::to_string(accepted_.size()) + " that were accepted");
  }
  const std::size_t last_n = options_.penalty_last_n;
  for (; accepted_.size() > n; accepted_.pop_back()) {
    if (!penalises()) continue;
    if (accepted_.size() > last_n) count(accepted_[accepted_.size() - 1 - last_n].token, 1);
    count(accepted_.back().token, ~0U);
  }
  random_.rewind(n == 0 ? 0 : accepted_.back().draws);
}

std::size_t Sampler::existing(std::size_t logits) const {
  const std::size_t count = std::min(logits, options_.tokens_used.value_or(logits));
  if (count == 0) throw InputError("there are no logits to choose from");
  return count;
}

std::optional<std::size_t> Sampler::candidates_needed() const noexcept {
  if (options_.temperature == 0.0) return 1;
  if (options_.top_k == 0 || options_.top_k > kMostTopK) return std::nullopt;
  return options_.top_k;
}

LogitEdits Sampler::edits(std::size_t existing) const {
  for (const EditedToken& token : edited_) {
    if (static_cast<std::size_t>(token.id) < existing) continue;
    throw InputError((token.count == 0 ? "logit_bias names token " : "the sampler accepted token ") +
                     std::to_string(token.id) + ", expected 0 to " + std::to_string(existing - 1));
  }
  const auto& o = options_;
  const auto mask = masks_.empty() ? std::span<const std::uint32_t>() : masks_[std::min(next_mask_, masks_.size() - 1)];
  return {edited_, o.repetition_penalty, o.presence_penalty, o.frequency_penalty, mask};
}

void Sampler::keep_top_k() {
  const std::size_t k = options_.top_k;
  if (k == 0 || k >= candidates_.size()) return;
  // A heap of k: most of a large vocabulary fails its first comparison.
  best_.resize(k);
  std::ranges::partial_sort_copy(candidates_, best_, MoreLikely{});
  candidates_.swap(best_);
}

void Sampler::sort_by_id() {
  const auto earlier = [](const Candidate& a, const Candidate& b) { return a.id < b.id; };
  if (!std::ranges::is_sorted(candidates_, earlier)) std::ranges::sort(candidates_, earlier);
}

void Sampler::keep_top_p() {
  if (options_.top_p >= 1.0) return;
  const double largest = std::ranges::min_element(candidates_, MoreLikely{})->logit;
  double sum = 0.0;
  sort_by_id();  // one order of summation, however the candidates came here
  for (const Candidate& c : candidates_) sum += std::exp(c.logit - largest);

  // A heap gives the most likely ones in turn without sorting a whole vocabulary.
  const auto worse = [](const Candidate& a, const Candidate& b) { return MoreLikely{}(b, a); };
  std::ranges::make_heap(candidates_, worse);
  double reached = 0.0;
  auto end = candidates_.end();
  do {
    std::pop_heap(candidates_.begin(), end, worse);
    --end;
    reached += std::exp(end->logit - largest);
  } while (reached < options_.top_p * sum && end != candidates_.begin());
  candidates_.erase(candidates_.begin(), end);
}

void Sampler::keep_min_p() {
  if (options_.min_p <= 0.0) return;
  const double largest = std::ranges::min_element(candidates_, MoreLikely{})->logit;
  const double least = largest + std::log(options_.min_p);
  std::erase_if(candidates_, [&](const Candidate& c) { return c.logit < least; });
}

// Walks the survivors in order of id, so that the outcome does not depend on how they were found.
Drawn Sampler::draw_candidate() {
  if (candidates_.empty())
    throw InputError("every token has logit -inf or is excluded by the mask; there is none to choose");
  const Candidate best = *std::ranges::min_element(candidates_, MoreLikely{});
  if (options_.temperature == 0.0) return {best.id, best.given};
  keep_top_k();
  keep_top_p();
  keep_min_p();
  sort_by_id();
  double sum = 0.0;
  for (Candidate& c : candidates_) {
    c.logit = std::exp((c.logit - best.logit) / options_.temperature);  // from here on a weight
    sum += c.logit;
  }
  double left = random_.unit() * sum;
  Drawn drawn{candidates_.front().id, candidates_.front().given};
  for (const Candidate& c : candidates_) {
    if (c.logit == 0.0) continue;
    drawn = {c.id, c.given};  // the last one, should rounding leave a remainder
    if (left < c.logit) break;
    left -= c.logit;
  }
  return drawn;
}

Drawn Sampler::draw(std::span<const Candidate> best) {
  candidates_.assign(best.begin(), best.end());
  return draw_candidate();
}

Token Sampler::sample(std::span<const float> logits) {
  const auto row = logits.first(existing(logits.size()));
  const LogitEdits changes = edits(row.size());
  if (const auto needed = candidates_needed()) {
    row_.assign(row.begin(), row.end());
    return draw(top_k_.select(row_, *needed, changes)).token;
  }
  all_candidates(candidates_, row, changes);
  return draw_candidate().token;
}

Sampled Sampler::next(std::span<const float> logits, std::optional<std::size_t> n_logprobs) {
  const Token token = sample(logits);
  return accept_drawn(token, n_logprobs ? std::optional(logprobs(logits, token, *n_logprobs)) : std::nullopt);
}

Sampled Sampler::accept_drawn(Token token, std::optional<TokenLogprobs> logprobs) {
  accept({&token, 1});
  ++next_mask_;
  return {token, is_stop(token), std::move(logprobs)};
}

TokenLogprobs Sampler::logprobs(std::span<const float> logits, Token token, std::size_t n) const {
  std::vector<Candidate> all;
  const auto row = logits.first(existing(logits.size()));
  all_candidates(all, row, {});
  if (all.empty()) throw InputError("every token has logit -inf; there is no distribution");
  const double normaliser = log_sum_exp(row);
  TokenLogprobs found{static_cast<double>(logits[static_cast<std::size_t>(token)]) - normaliser, {}};
  const std::size_t count = std::min(n, all.size());
  std::ranges::partial_sort(all, all.begin() + static_cast<std::ptrdiff_t>(count), MoreLikely{});
  for (std::size_t i = 0; i < count; ++i) found.top.emplace_back(all[i].id, all[i].logit - normaliser);
  return found;
}

Logprobs Sampler::top_logprobs(std::span<const float> logits, std::size_t n) const {
  return logprobs(logits, 0, n).top;
}

}  // namespace qwen35
