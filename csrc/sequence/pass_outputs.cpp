// What a pass leaves its items: hidden rows, logits, drawn tokens.
#include <algorithm>
#include <exception>
#include <optional>
#include <utility>

#include "base/error.h"
#include "model/forward.h"
#include "sequence/pass.h"

namespace qwen35 {

std::vector<Stepper::Head> Stepper::heads() const {
  std::vector<Head> heads;
  for (const Part& part : parts_) {
    const StepItem& item = *part.entry->item;
    for (std::size_t i = 0; i < part.outputs; ++i) {
      const std::size_t behind = part.outputs - 1 - i;
      const bool is_last = part.ends && behind == 0;
      const bool is_downloaded = item.logits == Output::kAll || (item.logits == Output::kLast && is_last);
      std::optional<std::size_t> draw;
      if (item.sampler != nullptr && part.ends && behind <= item.uncertain) draw = item.uncertain - behind;
      if (is_downloaded || draw) heads.push_back({part.first_output + i, &part, is_downloaded, draw});
    }
  }
  return heads;
}

void Stepper::fetch_hidden(Backend& ops, const Activations& s) {
  for (const Part& part : parts_) {
    const StepItem& item = *part.entry->item;
    std::size_t& given = part.entry->result->hidden_rows;
    if (item.hidden == Output::kNone) continue;
    const std::size_t first = item.hidden == Output::kLast && part.outputs > 0 ? part.outputs - 1 : 0;
    if (item.hidden == Output::kLast && !part.ends) continue;
    for (std::size_t i = first; i < part.outputs; ++i, ++given) {
      const Tensor row = s.last.rows_from(part.first_output + i, 1);
      ops.download(reinterpret_cast<std::byte*>(item.hidden_rows + given * row.cols), row.data.as<const std::byte>(),
                   row.cols * sizeof(float));
    }
  }
}

// Neighbouring rows share a pass over the head's weights.
void Stepper::fetch_logits(Backend& ops, const Activations& s, std::span<const Head> heads) {
  for (std::size_t first = 0, count = 0; first < heads.size(); first += count) {
    count = 1;
    while (count < kLogitRows && first + count < heads.size() &&
           heads[first + count].output == heads[first].output + count) {
      ++count;
    }
    const Tensor rows = project(ops, model_.weights(), s, heads[first].output, count);
    for (std::size_t i = 0; i < count; ++i) use_logits(ops, heads[first + i], rows.rows_from(i, 1));
  }
}

void Stepper::use_logits(Backend& ops, const Head& head, Tensor row) {
  const StepItem& item = *head.part->entry->item;
  StepResult& result = *head.part->entry->result;
  float* to = nullptr;
  if (head.is_downloaded) {
    to = item.logit_rows + result.logit_rows++ * row.cols;
    ops.download(reinterpret_cast<std::byte*>(to), row.data.as<const std::byte>(), row.cols * sizeof(float));
  }
  if (!head.draw || result.sampled.size() != *head.draw) return;
  if (*head.draw > 0) {  // of the uncertain token that the row belongs to, unless it was not drawn
    const Sampled& before = result.sampled.back();
    if (before.is_stop || before.token != item.tokens[item.tokens.size() - item.uncertain + *head.draw - 1]) return;
  }
  try {
    result.sampled.push_back(draw(ops, item, row, to));
  } catch (const InputError&) {  // of these logits with this sampler
    result.error = std::current_exception();
  }
}

// The whole row leaves the device only where the draw needs it, or somebody asked for it.
Sampled Stepper::draw(Backend& ops, const StepItem& item, Tensor row, const float* downloaded) {
  Sampler& sampler = *item.sampler;
  row.cols = sampler.existing(row.cols);
  const auto needed = sampler.candidates_needed();
  if (needed && item.logprobs.value_or(0) <= kMostTopK) return draw_best(ops, item, row, *needed);
  if (downloaded == nullptr) {
    row_.resize(row.cols);
    ops.download(reinterpret_cast<std::byte*>(row_.data()), row.data.as<const std::byte>(), row.cols * sizeof(float));
    downloaded = row_.data();
  }
  return sampler.next({downloaded, row.cols}, item.logprobs);
}

// Of the best `needed` tokens alone. The most likely ones before edits come first, since edits overwrite the row.
Sampled Stepper::draw_best(Backend& ops, const StepItem& item, Tensor row, std::size_t needed) {
  Sampler& sampler = *item.sampler;
  const LogitEdits edits = sampler.edits(row.cols);
  std::optional<TokenLogprobs> logprobs;
  if (item.logprobs) logprobs.emplace();
  if (item.logprobs.value_or(0) > 0) {
    best_.resize(std::min(*item.logprobs, row.cols));
    best_.resize(ops.top_k(best_, row, {}));
    for (const Candidate& c : best_) logprobs->top.emplace_back(c.id, c.logit);
  }
  double log_sum = 0.0;
  best_.resize(std::min(needed, row.cols));
  best_.resize(ops.top_k(best_, row, edits, logprobs ? &log_sum : nullptr));
  const Drawn drawn = sampler.draw(best_);
  if (logprobs) {
    logprobs->token = static_cast<double>(drawn.logit) - log_sum;
    for (auto& [id, logprob] : logprobs->top) logprob -= log_sum;
  }
  return sampler.accept_drawn(drawn.token, std::move(logprobs));
}

}  // namespace qwen35
