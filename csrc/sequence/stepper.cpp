#include "sequence/stepper.h"

#include <algorithm>
#include <numeric>
#include <string>
#include <unordered_set>
#include <utility>

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

void check_rows(std::size_t rows, std::span<const StepItem> items) {
  for (const StepItem& item : items) {
    if (item.uncertain <= rows) continue;
    throw InputError("a pass of " + std::to_string(rows) + " rows (chunk_tokens), expected at least the " +
                     std::to_string(item.uncertain) + " uncertain tokens of an item");
  }
  if (rows >= 1 && rows <= kMostStepRows) return;
  throw InputError("a pass of " + std::to_string(rows) + " rows (chunk_tokens), expected 1 to " +
                   std::to_string(kMostStepRows));
}

// An item that takes part, from pass to pass.
struct Entry {
  const StepItem* item;
  const Sequence::Use* use;
  StepResult* result;

  std::size_t remaining() const noexcept { return result->error ? 0 : item->tokens.size() - result->evaluated; }
  // Of the next `room` rows. Uncertain tokens share a pass, since the next pass commits what it finds.
  std::size_t within(std::size_t room) const noexcept {
    return remaining() <= room ? remaining() : std::min(room, remaining() - item->uncertain);
  }
};

// How many rows of a pass each entry gets.
std::vector<std::size_t> allot(std::span<const Entry> entries, std::size_t rows) {
  std::vector<std::size_t> order(entries.size()), given(entries.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, {}, [&](std::size_t i) { return entries[i].remaining(); });
  for (const std::size_t i : order) {
    if (entries[i].remaining() > rows) break;
    rows -= given[i] = entries[i].remaining();
  }
  for (std::size_t i = 0; i < entries.size(); ++i) {
    if (given[i] == entries[i].remaining()) continue;
    rows -= given[i] = entries[i].within(rows);
  }
  return given;
}

}  // namespace

class Stepper {
 public:
  Stepper(Model& model, std::vector<Entry> entries, std::size_t rows)
      : model_(model), entries_(std::move(entries)), rows_(rows) {}

  static void check(const Sequence& sequence, const StepItem& item);
  bool is_done() const noexcept {
    return std::ranges::all_of(entries_, [](const Entry& entry) { return entry.remaining() == 0; });
  }
  void pass();

 private:
  struct Part {  // the rows of one entry in a pass
    Entry* entry;
    std::span<const Token> tokens;
    std::vector<InputRows> inputs;
    std::size_t certain;       // leading rows
    std::size_t first_output;  // among the output rows of the pass
    std::size_t outputs;
    bool ends;  // with the last token of the item
  };
  struct Head {  // an output row whose logits are needed
    std::size_t output;
    const Part* part;
    bool is_downloaded;
    bool is_drawn_from;
  };

  void compose();
  void add(Entry& entry, std::size_t count);
  void place(Sequence& sequence, std::uint32_t count, std::uint32_t certain, std::span<const InputRows> inputs);
  void upload_inputs(Model::DeviceLock& device);
  std::vector<Head> heads() const;
  void fetch_hidden(Backend& ops, const Activations& s);
  void fetch_logits(Backend& ops, const Activations& s, std::span<const Head> heads);
  void use_logits(Backend& ops, const Head& head, Tensor row);
  Sampled draw(Backend& ops, const StepItem& item, Tensor row, const float* downloaded);

  Model& model_;
  std::vector<Entry> entries_;
  std::size_t rows_;
  StepArrays step_;
  std::vector<Part> parts_;
  std::vector<Candidate> best_;
  std::vector<float> row_;
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
  const std::size_t most = std::min(sequence.model().drafts(), item.tokens.size());
  if (item.uncertain > most) {
    throw InputError(std::to_string(item.uncertain) + " uncertain tokens, expected at most " + std::to_string(most) +
                     ": the tokens given, and the drafts that the model was loaded for");
  }
  const bool wants_last = item.logits == Output::kLast || item.hidden == Output::kLast || item.sampler != nullptr;
  if (wants_last && item.tokens.empty()) {
    throw InputError("logits of the last token were asked for, but there are no tokens to read");
  }
}

void Stepper::compose() {
  step_.clear();
  parts_.clear();
  for (Entry& entry : entries_) {
    try {
      entry.use->check_cancelled();
    } catch (const Cancelled&) {
      entry.result->error = std::current_exception();
    }
  }
  const std::vector<std::size_t> rows = allot(entries_, rows_);
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    if (rows[i] == 0) continue;
    try {
      add(entries_[i], rows[i]);
    } catch (...) {  // no memory for its state: the pass goes on without it
      entries_[i].result->error = std::current_exception();
    }
  }
}

void Stepper::add(Entry& entry, std::size_t count) {
  const StepItem& item = *entry.item;
  const auto tokens = item.tokens.subspan(entry.result->evaluated, count);
  const bool ends = entry.remaining() == count;
  const std::size_t first = step_.tokens.size();
  const bool wants_last = item.logits == Output::kLast || item.hidden == Output::kLast || item.sampler != nullptr;
  const bool wants_all = item.logits == Output::kAll || item.hidden == Output::kAll;
  const std::size_t outputs = wants_all ? count : ends && wants_last ? 1 : 0;
  std::vector<InputRows> inputs = inputs_within(item.inputs, entry.result->evaluated, count);
  const std::size_t certain = ends ? count - item.uncertain : count;
  place(*item.sequence, static_cast<std::uint32_t>(count), static_cast<std::uint32_t>(certain), inputs);
  parts_.push_back({&entry, tokens, std::move(inputs), certain, step_.outputs.size(), outputs, ends});
  step_.tokens.insert(step_.tokens.end(), tokens.begin(), tokens.end());
  for (std::size_t i = count - outputs; i < count; ++i) {
    step_.outputs.push_back(static_cast<std::uint32_t>(first + i));
  }
}

// Everything a pass needs is reserved here, so that nothing fails after it; the step changes only once that is done.
void Stepper::place(Sequence& sequence, std::uint32_t count, std::uint32_t certain, std::span<const InputRows> inputs) {
  const auto position = static_cast<std::uint32_t>(sequence.content_.size());
  sequence.content_.reserve(count, inputs.size());
  StepSegment segment{.first = static_cast<std::uint32_t>(step_.tokens.size()),
                      .count = count,
                      .position = position,
                      .committed = static_cast<std::uint32_t>(sequence.committed_),
                      .certain = certain,
                      .state = sequence.state_.slot(),
                      .format{},
                      .plain_pages{},
                      .quantised_pages{}};
  sequence.pages_.make_writable(segment);
  sequence.pages_.list(step_, segment);
  step_.segments.push_back(segment);
  sequence.content_.place(count, inputs, step_.positions);
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

std::vector<Stepper::Head> Stepper::heads() const {
  std::vector<Head> heads;
  for (const Part& part : parts_) {
    const StepItem& item = *part.entry->item;
    for (std::size_t i = 0; i < part.outputs; ++i) {
      const bool is_last = part.ends && i + 1 == part.outputs;
      const bool is_downloaded = item.logits == Output::kAll || (item.logits == Output::kLast && is_last);
      const bool is_drawn_from = item.sampler != nullptr && is_last;
      if (is_downloaded || is_drawn_from) heads.push_back({part.first_output + i, &part, is_downloaded, is_drawn_from});
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
  if (!head.is_drawn_from) return;
  try {
    result.sampled = draw(ops, item, row, to);
  } catch (const InputError&) {  // of these logits with this sampler
    result.error = std::current_exception();
  }
}

// The whole row leaves the device only where the draw needs it, or somebody asked for it.
Sampled Stepper::draw(Backend& ops, const StepItem& item, Tensor row, const float* downloaded) {
  Sampler& sampler = *item.sampler;
  row.cols = sampler.existing(row.cols);
  const auto needed = sampler.candidates_needed();
  if (needed && !item.logprobs) {
    best_.resize(std::min(*needed, row.cols));
    const std::size_t found = ops.top_k(best_, row, sampler.edits(row.cols));
    return sampler.accept_drawn(sampler.draw({best_.data(), found}), std::nullopt);
  }
  if (downloaded == nullptr) {
    row_.resize(row.cols);
    ops.download(reinterpret_cast<std::byte*>(row_.data()), row.data.as<const std::byte>(), row.cols * sizeof(float));
    downloaded = row_.data();
  }
  return sampler.next({downloaded, row.cols}, item.logprobs);
}

void Stepper::pass() {
  auto device = model_.lock_device();
  Backend& ops = device.ops();
  compose();
  if (parts_.empty()) return;
  upload_inputs(device);
  const std::vector<Head> rows_of_logits = heads();
  const Activations s = device.activations(step_.tokens.size(), std::min(kLogitRows, rows_of_logits.size()));
  for (const Part& part : parts_) part.entry->item->sequence->is_torn_ = true;
  ops.run(step_.view(),
          [&] { forward(ops, model_.weights(), model_.config(), model_.rope(), s, step_.outputs.size()); });
  fetch_hidden(ops, s);
  fetch_logits(ops, s, rows_of_logits);
  ops.synchronize();
  for (const Part& part : parts_) {
    Sequence& sequence = *part.entry->item->sequence;
    sequence.committed_ = sequence.content_.size() + part.certain;
    sequence.content_.append(part.tokens, part.inputs);
    sequence.size_.store(sequence.content_.size(), std::memory_order_release);
    sequence.pages_.release(sequence.committed_);
    sequence.is_torn_ = false;
    part.entry->result->evaluated += part.tokens.size();
  }
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
