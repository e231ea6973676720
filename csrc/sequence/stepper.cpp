#include "sequence/stepper.h"

#include <exception>
#include <string>
#include <unordered_set>
#include <vector>

#include "base/error.h"
#include "sequence/pass.h"

namespace qwen35 {
namespace {

void check_rows(std::size_t rows, std::span<const StepItem> items) {
  for (const StepItem& item : items) {
    if (item.together() <= rows) continue;
    throw InputError("a pass of " + std::to_string(rows) + " rows (chunk_tokens), expected at least the " +
                     std::to_string(item.uncertain) + " uncertain tokens of an item" +
                     (item.sampler == nullptr ? "" : " and the one before them"));
  }
  check_step_rows(rows);
}

}  // namespace

void check_tokens(const Config& config, std::span<const Token> tokens) {
  for (const Token token : tokens) {
    if (token >= 0 && static_cast<std::size_t>(token) < config.vocabulary) continue;
    throw InputError("token " + std::to_string(token) + " is not in [0, " + std::to_string(config.vocabulary) +
                     "), the vocabulary of this model");
  }
}

void check_step_rows(std::size_t rows) {
  if (rows >= 1 && rows <= kMostStepRows) return;
  throw InputError("a pass of " + std::to_string(rows) + " rows (chunk_tokens), expected 1 to " +
                   std::to_string(kMostStepRows));
}

std::vector<StepResult> step(Model& model, std::span<const StepItem> items, std::size_t rows) {
  check_rows(rows, items);
  std::vector<StepResult> results(items.size());
  std::vector<Sequence::Use> uses;
  uses.reserve(items.size());
  std::vector<Entry> entries;
  std::unordered_set<const void*> seen;
  for (std::size_t i = 0; i < items.size(); ++i) {
    const StepItem& item = items[i];
    try {
      if (&item.sequence->model() != &model) {
        throw InputError("a sequence of the step belongs to another model; give it to that model's step");
      }
      if (!seen.insert(item.sequence).second) {
        throw InputError("the same sequence is twice in one step; append its tokens in one item");
      }
      if (item.sampler != nullptr && !seen.insert(item.sampler).second) {
        throw InputError("the same sampler is twice in one step; clone() it");
      }
      uses.emplace_back(*item.sequence, Sequence::Use::For::kEvaluating);
      Stepper::check(*item.sequence, item);
      entries.push_back({&item, &uses.back(), &results[i]});
    } catch (const InputError&) {
      results[i].error = std::current_exception();
    }
  }
  Stepper(model, entries, rows).pass();
  for (const Entry& entry : entries) {
    try {
      if (!entry.result->error) entry.use->check_cancelled();
    } catch (const Cancelled&) {
      entry.result->error = std::current_exception();
    }
  }
  return results;
}

namespace {

void evaluate_in_use(std::span<const Sequence::Use> uses, std::span<const StepItem> items, std::size_t rows,
                     const std::function<void()>& pause) {
  check_rows(rows, items);
  std::vector<StepResult> results(items.size());
  std::vector<Entry> entries;
  for (std::size_t i = 0; i < items.size(); ++i) {
    Stepper::check(*items[i].sequence, items[i]);
    entries.push_back({&items[i], &uses[i], &results[i]});
  }
  Stepper stepper(items.front().sequence->model(), entries, rows);
  while (!stepper.is_done()) {
    stepper.pass();
    for (const StepResult& result : results) {
      if (result.error) std::rethrow_exception(result.error);
    }
    pause();
    for (const auto& use : uses) use.check_cancelled();
  }
}

}  // namespace

void evaluate(std::span<const StepItem> items, std::size_t rows, const std::function<void()>& pause) {
  if (items.empty()) return;
  std::unordered_set<const Sequence*> seen;
  for (const StepItem& item : items) {
    if (&item.sequence->model() != &items.front().sequence->model()) {
      throw InputError("the sequences of one batch belong to different models; read them in separate calls");
    }
    if (!seen.insert(item.sequence).second) {
      throw InputError("the same sequence is twice in one batch; append its tokens in one item");
    }
  }
  std::vector<Sequence::Use> uses;
  uses.reserve(items.size());
  for (const StepItem& item : items) uses.emplace_back(*item.sequence, Sequence::Use::For::kEvaluating);
  evaluate_in_use(uses, items, rows, pause);
}

void evaluate(const Sequence::Use& use, std::span<const Token> tokens, std::size_t rows,
              const std::function<void()>& pause) {
  const StepItem item{.sequence = &use.sequence(), .tokens = tokens};
  evaluate_in_use({&use, 1}, {&item, 1}, rows, pause);
}

}  // namespace qwen35
