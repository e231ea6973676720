#include "sequence/pass.h"

#include <algorithm>
#include <exception>
#include <functional>
#include <numeric>
#include <string>
#include <utility>

#include "base/error.h"
#include "model/forward.h"

namespace qwen35 {
namespace {

// The blocks that have rows among [offset, offset + count) of an item, counted from there.
std::vector<InputRows> inputs_within(std::span<const InputRows> inputs, std::size_t offset, std::size_t count) {
  std::vector<InputRows> within;
  for (const InputRows& rows : inputs) {
    const InputRows moved{rows.first - static_cast<std::ptrdiff_t>(offset), rows.block};
    if (moved.first < static_cast<std::ptrdiff_t>(count) && moved.end() > 0) within.push_back(moved);
  }
  return within;
}

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

// A segment as the block that drafts takes it: one token behind, and without a first token, which has no hidden state
// before it.
StepSegment behind(StepSegment s) {
  if (s.position == 0) {
    ++s.first;
    s.count = pairs(s.count);
    s.certain = pairs(s.certain);
  }
  s.position = pairs(s.position);
  s.committed = pairs(s.committed);
  return s;
}

}  // namespace

void Stepper::check(const Sequence& sequence, const StepItem& item) {
  sequence.check_whole();
  const Config& config = sequence.model().config();
  check_tokens(config, item.tokens);
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
  if (item.sampler != nullptr && item.uncertain > 0 && item.uncertain == item.tokens.size()) {
    throw InputError("a sampler draws from the last certain token on, and all " + std::to_string(item.uncertain) +
                     " tokens are uncertain");
  }
  if (wants_last && item.tokens.empty()) {
    throw InputError("logits of the last token were asked for, but there are no tokens to read");
  }
}

void Stepper::compose() {
  step_.clear();
  draft_segments_.clear();
  draft_positions_.clear();
  draft_pages_.clear();
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
  const std::size_t drawn = item.sampler == nullptr ? 1 : 1 + item.uncertain;
  const std::size_t outputs = wants_all || draft_ != nullptr ? count : ends && wants_last ? drawn : 0;
  std::vector<InputRows> inputs = inputs_within(item.inputs, entry.result->evaluated, count);
  const std::size_t certain = ends ? count - item.uncertain : count;
  const bool writes_pairs =
      place(*item.sequence, static_cast<std::uint32_t>(count), static_cast<std::uint32_t>(certain), inputs);
  parts_.push_back({&entry, tokens, std::move(inputs), certain, step_.outputs.size(), outputs, ends, writes_pairs});
  step_.tokens.insert(step_.tokens.end(), tokens.begin(), tokens.end());
  for (std::size_t i = count - outputs; i < count; ++i) {
    step_.outputs.push_back(static_cast<std::uint32_t>(first + i));
  }
}

// Room for the pairs of the segment, where they are written with it: a few rows of text wait with their hidden rows.
bool Stepper::reserve_pairs(Sequence& sequence, const StepSegment& segment, bool has_inputs) {
  if (draft_ == nullptr) return false;
  const std::size_t kept = hidden_rows(static_cast<std::uint32_t>(model_.drafts()));
  const bool are_written = has_inputs || segment.count >= kept;
  if (are_written || segment.end() - sequence.pairs_.written > kept) late_.add(sequence);
  if (are_written) sequence.pairs_.pages.make_writable(behind(segment));
  return are_written;
}

// Everything a pass needs is reserved here, so that nothing fails after it; the step changes only once that is done.
// Returns whether the pairs of these rows are written in this pass.
bool Stepper::place(Sequence& sequence, std::uint32_t count, std::uint32_t certain, std::span<const InputRows> inputs) {
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
  const bool writes_pairs = reserve_pairs(sequence, segment, !inputs.empty());
  sequence.pages_.list(step_.page_table, segment);
  step_.segments.push_back(segment);
  sequence.content_.place(count, inputs, step_.positions);
  if (writes_pairs) {
    StepSegment draft_segment = behind(segment);
    sequence.pairs_.pages.list(draft_pages_, draft_segment);
    draft_segments_.push_back(draft_segment);
  }
  draft_positions_.push_back(sequence.content_.previous(inputs));
  draft_positions_.insert(draft_positions_.end(), step_.positions.end() - count, step_.positions.end() - 1);
  return writes_pairs;
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

Step Stepper::draft_step() const {
  Step step = step_.view();
  step.segments = draft_segments_;
  step.positions = draft_positions_;
  step.page_table = draft_pages_;
  return step;
}

void Stepper::pass() {
  auto device = model_.lock_device();
  Backend& ops = device.ops();
  compose();
  late_.run(device);
  if (parts_.empty()) return;
  upload_inputs(device);
  const std::vector<Head> rows_of_logits = heads();
  const Activations s = device.reserve(step_.view(), std::min(kLogitRows, rows_of_logits.size()));
  const std::function<void()> page = [&] {
    forward(ops, model_.weights(), model_.config(), model_.rope(), s, step_.outputs.size());
    if (draft_ != nullptr) ops.previous_rows(s.h, s.last);
  };
  if (!draft_segments_.empty()) ops.reserve(model_.config(), draft_step());
  const std::function<void()> draft_page = [&] { append_pairs(ops, *draft_, model_.config(), model_.rope(), s); };
  for (const Part& part : parts_) part.entry->item->sequence->is_torn_ = true;
  ops.run(step_.view(), page);
  if (!draft_segments_.empty()) ops.run(draft_step(), draft_page);
  fetch_hidden(ops, s);
  fetch_logits(ops, s, rows_of_logits);
  ops.synchronize();
  for (const Part& part : parts_) {
    Sequence& sequence = *part.entry->item->sequence;
    sequence.committed_ = sequence.content_.size() + part.certain;
    sequence.content_.append(part.tokens, part.inputs);
    sequence.size_.store(sequence.content_.size(), std::memory_order_release);
    sequence.pages_.release(sequence.committed_);
    if (part.writes_pairs) sequence.pairs_.note(sequence.content_.size(), sequence.committed_);
    sequence.pairs_.pages.release(sequence.pairs_.committed);
    sequence.is_torn_ = false;
    part.entry->result->evaluated += part.tokens.size();
  }
}

}  // namespace qwen35
