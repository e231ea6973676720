// A step: one pass over the model with new tokens of several sequences side by side, and what each wants of it. And
// appending: as many passes as the tokens take.
#pragma once

#include <cstddef>
#include <exception>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "sequence/sampler.h"
#include "sequence/sequence.h"

namespace qwen35 {

enum class Output { kNone, kLast, kAll };

struct StepItem {
  Sequence* sequence;
  std::span<const Token> tokens;
  std::span<const InputRows> inputs = {};  // in the place of some of the tokens
  // Rows that go to host memory: logits [n, V] and last hidden rows behind the final norm [n, D], with n at most
  // output_rows(); row i of kAll belongs to token i.
  Output logits = Output::kNone;
  Output hidden = Output::kNone;
  float* logit_rows = nullptr;
  float* hidden_rows = nullptr;
  // Draws what follows the last certain token and, as long as the token drawn is the one that comes next in `tokens`,
  // what follows that one: so uncertain tokens are verified, and the draws are those without them.
  Sampler* sampler = nullptr;
  std::optional<std::size_t> logprobs = {};  // of the drawn tokens, and of so many of the most likely ones
  std::size_t uncertain = 0;  // the last tokens, which rewind() can take back; at most the model's drafts

  // The last tokens that have to share a pass.
  std::size_t together() const noexcept { return uncertain == 0 ? 0 : uncertain + (sampler == nullptr ? 0 : 1); }
};

constexpr std::size_t output_rows(Output output, std::size_t tokens) noexcept {
  return output == Output::kNone ? 0 : output == Output::kAll ? tokens : 1;
}

struct StepResult {
  std::size_t evaluated = 0;  // of the item's tokens; once it is all of them, the item is finished
  std::size_t logit_rows = 0;
  std::size_t hidden_rows = 0;
  std::vector<Sampled> sampled;  // all but the last of them are the first uncertain tokens
  std::exception_ptr error;      // what ended this item, and this item alone
};

inline constexpr std::size_t kMostStepRows = 8192;

// Throws InputError for an id that is not in the vocabulary.
void check_tokens(const Config& config, std::span<const Token> tokens);

// Throws InputError unless a pass can have so many rows.
void check_step_rows(std::size_t rows);

// One pass of at most `rows` tokens. Items that fit whole go first, the shortest first, so that no long prompt holds up
// a token to decode; what is left goes to the others in the order of the items. Bits do not depend on any of this. An
// item that cannot be, does not fit, is cancelled, or whose draw fails says so in its result, and the others go on.
// Throws only what concerns all of them: InputError about `rows`, or what fails on the device; sequences that took part
// are then torn.
std::vector<StepResult> step(Model& model, std::span<const StepItem> items, std::size_t rows);

// Steps until every item is finished. `pause` is called between passes with nothing locked, and what it throws ends the
// evaluation. Throws InputError before anything is changed; what ends any item ends all, each sequence then standing at
// the end of the last pass.
void evaluate(std::span<const StepItem> items, std::size_t rows, const std::function<void()>& pause);

// The same for a sequence already in use for evaluation.
void evaluate(const Sequence::Use& use, std::span<const Token> tokens, std::size_t rows,
              const std::function<void()>& pause);

}  // namespace qwen35
