#include "sequence/sampler.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <sstream>
#include <string>

#include "base/error.h"

namespace qwen35 {
namespace {

constexpr std::size_t kBlock = 64;  // logits whose largest is kept; small enough for some 4,000 blocks

std::span<const float> block(std::span<const float> logits, std::size_t i) noexcept {
  return logits.subspan(i * kBlock, std::min(kBlock, logits.size() - i * kBlock));
}

// In lanes, which compilers keep in vectors.
float largest_of(std::span<const float> logits) noexcept {
  constexpr std::size_t kLanes = 16;
  float largest[kLanes];
  std::ranges::fill(largest, -std::numeric_limits<float>::infinity());
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

constexpr double kImpossible = -std::numeric_limits<double>::infinity();

// Written so that NaN is outside every range.
void require_range(const char* name, double value, double least, double most) {
  if (value >= least && value <= most) return;
  std::ostringstream text;
  text << name << " is " << value << ", expected " << least << " to " << most;
  throw InputError(text.str());
}

// The more likely first; of equals the lower id.
struct Better {
  template <class T>
  bool operator()(const T& a, const T& b) const noexcept {
    return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
  }
};

}  // namespace

Sampler::Sampler(SamplerOptions options) : options_(std::move(options)), random_(options_.seed) {
  require_range("temperature", options_.temperature, 0.0, 100.0);
  require_range("top_p", options_.top_p, 0.0, 1.0);
  require_range("min_p", options_.min_p, 0.0, 1.0);
  require_range("repetition_penalty", options_.repetition_penalty, 0.01, 100.0);
  require_range("presence_penalty", options_.presence_penalty, -100.0, 100.0);
  require_range("frequency_penalty", options_.frequency_penalty, -100.0, 100.0);
  if (options_.tokens_used && *options_.tokens_used == 0) throw InputError("n_tokens_used is 0, expected at least 1");
  for (const auto& [id, bias] : options_.bias) {
    if (id < 0 || (options_.tokens_used && static_cast<std::size_t>(id) >= *options_.tokens_used)) {
      throw InputError("logit_bias names token " + std::to_string(id) + ", which the vocabulary does not have");
    }
    if (bias != kImpossible) require_range("logit_bias", bias, -1e6, 1e6);
  }
}

std::span<const float> Sampler::existing(std::span<const float> logits) const {
  const auto used = logits.first(std::min(logits.size(), options_.tokens_used.value_or(logits.size())));
  if (used.empty()) throw InputError("there are no logits to choose from");
  constexpr float kMost = std::numeric_limits<float>::max();
  std::uint32_t unsound = 0;  // one pass without a branch, as wide as a logit: there are some 250,000
  for (const float logit : used) unsound |= logit <= kMost ? 0U : 1U;
  for (std::size_t i = 0; unsound != 0 && i < used.size(); ++i) {
    if (used[i] <= kMost) continue;
    throw InputError("logit of token " + std::to_string(i) + " is " + (std::isnan(used[i]) ? "NaN" : "+inf") +
                     ", expected a number or -inf; the model's weights may be damaged");
  }
  return used;
}

// The ids that may end up among the top_k (temperature 0: the top one), and those that are adjusted. Of n blocks of
// logits, the k-th largest block maximum has k logits at or above it; with as many blocks more as there are adjusted
// ids, k of those logits stay as they are. So nothing below can be among the top k.
void Sampler::collect(std::span<const float> logits, std::span<const Token> seen) {
  adjusted_.clear();
  for (const auto& [id, bias] : options_.bias) {
    if (static_cast<std::size_t>(id) >= logits.size()) {
      throw InputError("logit_bias names token " + std::to_string(id) + ", expected below " +
                       std::to_string(logits.size()));
    }
    adjusted_.push_back(id);
  }
  for (const Token id : seen) {
    if (static_cast<std::size_t>(id) < logits.size()) adjusted_.push_back(id);
  }
  std::ranges::sort(adjusted_);
  adjusted_.erase(std::ranges::unique(adjusted_).begin(), adjusted_.end());

  const std::size_t wanted = options_.temperature == 0.0 ? 1 : options_.top_k, needed = wanted + adjusted_.size();
  const std::size_t blocks = (logits.size() + kBlock - 1) / kBlock;
  float least = -std::numeric_limits<float>::infinity();
  largest_.assign(blocks, least);
  if (wanted != 0 && needed <= blocks) {
    for (std::size_t b = 0; b < blocks; ++b) largest_[b] = largest_of(block(logits, b));
    ranked_ = largest_;
    const auto place = ranked_.begin() + static_cast<std::ptrdiff_t>(needed - 1);
    std::nth_element(ranked_.begin(), place, ranked_.end(), std::greater<>{});
    least = *place;
  }
  candidates_.clear();
  auto adjusted = adjusted_.begin();
  for (std::size_t b = 0; b < blocks; ++b) {
    const std::size_t first = b * kBlock;
    const bool has_adjusted = adjusted != adjusted_.end() && static_cast<std::size_t>(*adjusted) < first + kBlock;
    if (!has_adjusted && largest_[b] < least) continue;
    for (std::size_t i = first; i < std::min(first + kBlock, logits.size()); ++i) {
      const bool is_adjusted = adjusted != adjusted_.end() && static_cast<std::size_t>(*adjusted) == i;
      if (is_adjusted) ++adjusted;
      if (is_adjusted || logits[i] >= least) candidates_.push_back({logits[i], static_cast<Token>(i)});
    }
  }
}

Sampler::Candidate* Sampler::find(Token id) noexcept {
  const auto place = std::ranges::lower_bound(candidates_, id, {}, &Candidate::id);
  return place != candidates_.end() && place->id == id ? &*place : nullptr;
}

void Sampler::apply_bias() {
  for (const auto& [id, bias] : options_.bias) find(id)->logit += bias;
}

void Sampler::apply_penalties(std::span<const Token> seen) {
  const auto& o = options_;
  for (const Token id : seen) ++counts_[static_cast<std::size_t>(id)];
  for (const Token id : seen) {
    std::uint32_t& count = counts_[static_cast<std::size_t>(id)];
    Candidate* candidate = find(id);
    if (count != 0 && candidate != nullptr) {  // else done at its first place, or an id that does not exist
      double& logit = candidate->logit;
      logit = logit > 0.0 ? logit / o.repetition_penalty : logit * o.repetition_penalty;
      logit -= o.presence_penalty + o.frequency_penalty * count;
    }
    count = 0;
  }
}

void Sampler::keep_top_k() {
  const std::size_t k = options_.top_k;
  if (k == 0 || k >= candidates_.size()) return;
  // A heap of k: most of a large vocabulary fails its first comparison.
  best_.resize(k);
  std::ranges::partial_sort_copy(candidates_, best_, Better{});
  candidates_.swap(best_);
}

void Sampler::sort_by_id() {
  const auto earlier = [](const Candidate& a, const Candidate& b) { return a.id < b.id; };
  if (!std::ranges::is_sorted(candidates_, earlier)) std::ranges::sort(candidates_, earlier);
}

void Sampler::keep_top_p() {
  if (options_.top_p >= 1.0) return;
  const double largest = std::ranges::min_element(candidates_, Better{})->logit;
  double sum = 0.0;
  sort_by_id();  // one order of summation, however the candidates came here
  for (const Candidate& c : candidates_) sum += std::exp(c.logit - largest);

  // A heap gives the most likely ones in turn without sorting a whole vocabulary.
  const auto worse = [](const Candidate& a, const Candidate& b) { return Better{}(b, a); };
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
  const double largest = std::ranges::min_element(candidates_, Better{})->logit;
  const double least = largest + std::log(options_.min_p);
  std::erase_if(candidates_, [&](const Candidate& c) { return c.logit < least; });
}

// Walks the survivors in order of id, so that the outcome does not depend on how they were found.
Token Sampler::draw() {
  const double largest = std::ranges::min_element(candidates_, Better{})->logit;
  sort_by_id();
  double sum = 0.0;
  for (Candidate& c : candidates_) {
    c.logit = std::exp((c.logit - largest) / options_.temperature);  // from here on a weight
    sum += c.logit;
  }
  double left = random_.unit() * sum;
  Token chosen = candidates_.front().id;
  for (const Candidate& c : candidates_) {
    if (c.logit == 0.0) continue;
    chosen = c.id;  // the last one, should rounding leave a remainder
    if (left < c.logit) break;
    left -= c.logit;
  }
  return chosen;
}

Token Sampler::sample(std::span<const float> logits, std::span<const Token> history) {
  const std::lock_guard lock(mutex_);
  for (const Token id : history) {
    if (id < 0 || static_cast<std::size_t>(id) >= logits.size()) {
      throw InputError("history holds token " + std::to_string(id) + ", expected 0 to " +
                       std::to_string(logits.size() - 1));
    }
  }
  const auto used = existing(logits);
  const auto& o = options_;
  const bool penalises = o.repetition_penalty != 1.0 || o.presence_penalty != 0.0 || o.frequency_penalty != 0.0;
  const std::size_t seen_count = penalises ? std::min(history.size(), o.penalty_last_n.value_or(history.size())) : 0;
  const auto seen = history.last(seen_count);
  counts_.resize(logits.size());
  collect(used, seen);
  apply_bias();
  apply_penalties(seen);
  const Candidate best = *std::ranges::min_element(candidates_, Better{});
  if (best.logit == kImpossible) throw InputError("every token has logit -inf; there is none to choose");
  if (options_.temperature == 0.0) return best.id;
  keep_top_k();
  keep_top_p();
  keep_min_p();
  return draw();
}

std::vector<std::pair<Token, double>> Sampler::top_logprobs(std::span<const float> logits, std::size_t n) const {
  const auto used = existing(logits);
  std::vector<Candidate> all(used.size());
  for (std::size_t i = 0; i < used.size(); ++i) all[i] = {used[i], static_cast<Token>(i)};
  const double largest = std::ranges::min_element(all, Better{})->logit;
  if (largest == kImpossible) throw InputError("every token has logit -inf; there is no distribution");
  double sum = 0.0;
  for (const Candidate& c : all) sum += std::exp(c.logit - largest);
  const double normaliser = largest + std::log(sum);

  const std::size_t count = std::min(n, all.size());
  std::partial_sort(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(count), all.end(), Better{});
  std::vector<std::pair<Token, double>> top;
  for (std::size_t i = 0; i < count; ++i) top.emplace_back(all[i].id, all[i].logit - normaliser);
  return top;
}

}  // namespace qwen35
