#include "sequence/stepper.h"

#include <algorithm>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "base/error.h"
#include "model/forward.h"

namespace qwen35 {
namespace {

// Rows of logits computed at a time: V is large, and a few rows already share one pass over the head's weights.
constexpr std::size_t kLogitRows = 32;

// The blocks that have rows among [offset, offset + count) of an item, counted from there.
std::vector<InputRows> inputs_within(std::span<const InputRows> inputs, std::size_t offset, std::size_t count) {
  std::vector<InputRows> within;
  for (const InputRows& rows : inputs) {
    const InputRows moved{rows.first - static_cast<std::ptrdiff_t>(offset), rows.block};
    if (moved.first < static_cast<std::ptrdiff_t>(count) && moved.end() > 0) within.push_back(moved);
  }
  return within;
}

}  // namespace

// All passes of one call: cuts the items into chunks and brings each sequence from chunk to chunk.
class Stepper {
 public:
  Stepper(Model& model, std::span<const StepItem> items, std::size_t chunk_tokens)
      : model_(model), items_(items), chunk_tokens_(chunk_tokens) {}

  static void check(const Sequence& sequence, const StepItem& item);
  bool is_done() const noexcept { return item_ == items_.size(); }
  void pass(std::span<const Sequence::Use> uses);

 private:
  struct Part {  // what one pass reads of one item
    Sequence* sequence;
    std::span<const Token> tokens;
    std::vector<InputRows> inputs;
  };

  void compose();
  void place();
  void upload_inputs(Model::DeviceLock& device);
  void fetch_logits(Backend& ops, const Activations& s);

  Model& model_;
  std::span<const StepItem> items_;
  std::size_t chunk_tokens_;
  std::size_t item_ = 0;    // first item not read to its end
  std::size_t offset_ = 0;  // tokens of it already read
  StepArrays step_;
  std::vector<Part> parts_;
  std::vector<float*> logits_;  // where the output rows go
};

void Stepper::check(const Sequence& sequence, const StepItem& item) {
  sequence.check_whole();
  const Config& config = sequence.model().config();
  for (const Token token : item.tokens) {
    if (token < 0 || static_cast<std::size_t>(token) >= config.vocabulary) {
      throw InputError("token " + std::to_string(token) + " is not in [0, " + std::to_string(config.vocabulary) +
                       "), the vocabulary of this model");
    }
  }
  if (item.tokens.size() > sequence.context_tokens() - sequence.content_.size()) {
    throw InputError(std::to_string(item.tokens.size()) +
                     " tokens do not fit: " + std::to_string(sequence.content_.size()) + " of " +
                     std::to_string(sequence.context_tokens()) + " context_tokens are taken");
  }
  sequence.content_.check(item.tokens.size(), item.inputs);
  for (const InputRows& rows : item.inputs) {
    if (rows.block->width() != config.hidden) {
      throw InputError("input rows of " + std::to_string(rows.block->width()) + " values, expected " +
                       std::to_string(config.hidden) + ", the hidden width of this model");
    }
  }
  if (item.output == Output::kLast && item.tokens.empty()) {
    throw InputError("logits of the last token were asked for, but there are no tokens to read");
  }
}

// The next rows, in the order of the items, until the chunk is full.
void Stepper::compose() {
  step_.clear();
  parts_.clear();
  logits_.clear();
  while (item_ < items_.size() && step_.tokens.size() < chunk_tokens_) {
    const StepItem& item = items_[item_];
    const std::size_t first = step_.tokens.size();
    const std::size_t count = std::min(item.tokens.size() - offset_, chunk_tokens_ - first);
    const auto tokens = item.tokens.subspan(offset_, count);
    if (count > 0) parts_.push_back({item.sequence, tokens, inputs_within(item.inputs, offset_, count)});
    step_.tokens.insert(step_.tokens.end(), tokens.begin(), tokens.end());
    const bool ends = offset_ + count == item.tokens.size();
    const std::size_t vocabulary = model_.config().vocabulary;
    if (item.output == Output::kAll) {
      for (std::size_t i = 0; i < count; ++i) {
        step_.outputs.push_back(static_cast<std::uint32_t>(first + i));
        logits_.push_back(item.logits + (offset_ + i) * vocabulary);
      }
    } else if (item.output == Output::kLast && ends) {
      step_.outputs.push_back(static_cast<std::uint32_t>(first + count - 1));
      logits_.push_back(item.logits);
    }
    offset_ += count;
    if (ends) {
      ++item_;
      offset_ = 0;
    }
  }
}

// Everything a pass needs is reserved here, so that nothing fails after it.
void Stepper::place() {
  std::uint32_t first = 0;
  for (const Part& part : parts_) {
    Sequence& sequence = *part.sequence;
    const auto position = static_cast<std::uint32_t>(sequence.content_.size());
    const auto count = static_cast<std::uint32_t>(part.tokens.size());
    sequence.pages_.make_writable(position, count);
    sequence.content_.reserve(count, part.inputs.size());
    StepSegment segment{.first = first,
                        .count = count,
                        .position = position,
                        .committed = position,
                        .certain = count,
                        .state = sequence.state_.slot(),
                        .format{},
                        .plain_pages{},
                        .quantised_pages{}};
    sequence.pages_.list(step_, segment);
    step_.segments.push_back(segment);
    sequence.content_.place(count, part.inputs, step_.positions);
    first += count;
  }
}

// Rows that are not tokens, to the device.
void Stepper::upload_inputs(Model::DeviceLock& device) {
  std::vector<const float*> rows;
  std::size_t begin = 0;  // of the part, in the batch
  for (const Part& part : parts_) {
    for (const InputRows& inputs : part.inputs) {
      const auto last = std::min(inputs.end(), static_cast<std::ptrdiff_t>(part.tokens.size()));
      for (std::ptrdiff_t row = std::max<std::ptrdiff_t>(inputs.first, 0); row < last; ++row) {
        step_.inputs.push_back({static_cast<std::uint32_t>(begin + static_cast<std::size_t>(row)), nullptr});
        rows.push_back(inputs.block->row(static_cast<std::size_t>(row - inputs.first)));
      }
    }
    begin += part.tokens.size();
  }
  if (rows.empty()) return;
  const std::size_t width = model_.config().hidden;
  DevicePtr<float> at = device.input_rows(rows.size());
  for (std::size_t i = 0; i < rows.size(); ++i, at = at + width) {
    device.ops().upload(at.as<std::byte>(), reinterpret_cast<const std::byte*>(rows[i]), width * sizeof(float));
    step_.inputs[i].values = at;
  }
}

void Stepper::fetch_logits(Backend& ops, const Activations& s) {
  const std::size_t row_bytes = model_.config().vocabulary * sizeof(float);
  for (std::size_t first = 0; first < logits_.size(); first += kLogitRows) {
    const std::size_t count = std::min(kLogitRows, logits_.size() - first);
    const Tensor rows = project(ops, model_.weights(), s, first, count);
    for (std::size_t i = 0; i < count; ++i) {
      ops.download(reinterpret_cast<std::byte*>(logits_[first + i]), rows.rows_from(i, 1).data.as<const std::byte>(),
                   row_bytes);
    }
  }
}

void Stepper::pass(std::span<const Sequence::Use> uses) {
  auto device = model_.lock_device();
  for (const auto& use : uses) use.check_cancelled();
  compose();
  if (parts_.empty()) return;
  Backend& ops = device.ops();
  place();
  upload_inputs(device);
  const Activations s = device.activations(step_.tokens.size(), std::min(kLogitRows, step_.outputs.size()));
  for (const Part& part : parts_) part.sequence->is_torn_ = true;
  ops.run(step_.view(),
          [&] { forward(ops, model_.weights(), model_.config(), model_.rope(), s, step_.outputs.size()); });
  fetch_logits(ops, s);
  ops.synchronize();
  for (const Part& part : parts_) {
    Sequence& sequence = *part.sequence;
    sequence.content_.append(part.tokens, part.inputs);
    sequence.size_.store(sequence.content_.size(), std::memory_order_release);
    sequence.pages_.release(sequence.content_.size());
    sequence.is_torn_ = false;
  }
}

namespace {

void evaluate_in_use(std::span<const Sequence::Use> uses, std::span<const StepItem> items, std::size_t chunk_tokens,
                     const std::function<void()>& pause) {
  if (chunk_tokens < 1 || chunk_tokens > kMostChunkTokens) {
    throw InputError("chunk_tokens is " + std::to_string(chunk_tokens) + ", expected 1 to " +
                     std::to_string(kMostChunkTokens));
  }
  for (const StepItem& item : items) Stepper::check(*item.sequence, item);
  Stepper reading(items.front().sequence->model(), items, chunk_tokens);
  while (!reading.is_done()) {
    reading.pass(uses);
    pause();
    for (const auto& use : uses) use.check_cancelled();
  }
}

}  // namespace

void evaluate(std::span<const StepItem> items, std::size_t chunk_tokens, const std::function<void()>& pause) {
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
  evaluate_in_use(uses, items, chunk_tokens, pause);
}

void evaluate(const Sequence::Use& use, std::span<const Token> tokens, std::size_t chunk_tokens,
              const std::function<void()>& pause) {
  const StepItem item{&use.sequence(), tokens, {}, Output::kNone, nullptr};
  evaluate_in_use({&use, 1}, {&item, 1}, chunk_tokens, pause);
}

}  // namespace qwen35
