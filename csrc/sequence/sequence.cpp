#include "sequence/sequence.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/error.h"
#include "sequence/stepper.h"

namespace qwen35 {

Sequence::Sequence(std::shared_ptr<Model> model, std::size_t context_tokens, KvFormat format)
    : model_(std::move(model)),
      context_tokens_(context_tokens == 0 ? model_->context_tokens() : context_tokens),
      pages_(model_->lock_device().kv_pool(format)),
      pairs_(model_->lock_device().draft_pool(format)),
      state_(model_->lock_device().state_pool()) {
  if (context_tokens_ > model_->context_tokens()) {
    throw InputError("context_tokens is " + std::to_string(context_tokens_) + ", expected at most the model's " +
                     std::to_string(model_->context_tokens()) + "; load the model with more context_tokens");
  }
}

Sequence::Use::Use(Sequence& sequence, For purpose) : sequence_(&sequence) {
  Activity expected = Activity::kIdle;
  const Activity wanted = purpose == For::kEvaluating ? Activity::kEvaluating : Activity::kBusy;
  if (!sequence.activity_.compare_exchange_strong(expected, wanted)) {
    sequence_ = nullptr;
    throw InputError("this sequence is in use by another call; one at a time, or fork() it");
  }
}

Sequence::Use::~Use() {
  if (sequence_ != nullptr) sequence_->activity_.store(Activity::kIdle);
}

void Sequence::Use::check_cancelled() const {
  if (sequence_->activity_.load() == Activity::kCancelled) {
    throw Cancelled("cancelled; the sequence stands at token " + std::to_string(sequence_->content_.size()));
  }
}

void Sequence::cancel() noexcept {
  Activity expected = Activity::kEvaluating;
  activity_.compare_exchange_strong(expected, Activity::kCancelled);
}

void Sequence::check_whole() const {
  if (is_torn_) {
    throw InputError("an earlier call on this sequence failed midway; restore() a snapshot or truncate(0) it first");
  }
}

std::vector<Token> Sequence::tokens() {
  const Use use(*this, Use::For::kMoment);
  return {content_.tokens().begin(), content_.tokens().end()};
}

std::vector<InputRun> Sequence::inputs() {
  const Use use(*this, Use::For::kMoment);
  return {content_.runs().begin(), content_.runs().end()};
}

std::int32_t Sequence::rope_delta() {
  const Use use(*this, Use::For::kMoment);
  return content_.rope_delta();
}

std::size_t Sequence::committed() {
  const Use use(*this, Use::For::kMoment);
  return committed_;
}

std::size_t Sequence::state_bytes() {
  const Use use(*this, Use::For::kMoment);
  return pages_.bytes() + pairs_.pages.bytes() + state_.bytes();
}

std::shared_ptr<Snapshot> Sequence::snapshot() {
  const Use use(*this, Use::For::kMoment);
  check_whole();
  auto device = model_->lock_device();
  LatePairs late(*model_);
  late.add(*this);
  late.run(device);
  RecurrentState state = state_.saved();
  auto taken = std::make_shared<Snapshot>(model_, content_, committed_, pages_.pinned(), pairs_.pages.pinned(),
                                          std::move(state));
  std::erase_if(snapshots_, [](const auto& snapshot) { return snapshot.expired(); });
  snapshots_.push_back(taken);
  return taken;
}

void Sequence::adopt(const Snapshot& snapshot, std::size_t n) {
  Content content = snapshot.content();
  const auto device = model_->lock_device();
  is_torn_ = true;  // until the last step
  pages_.replace(snapshot.pages());
  pairs_.pages.replace(snapshot.draft_pages());
  state_.copy_from(snapshot.state());
  content_ = std::move(content);
  committed_ = snapshot.committed();
  pairs_.note(content_.size(), committed_);
  cut(n);
  is_torn_ = false;
}

void Sequence::cut(std::size_t n) noexcept {
  content_.cut(n);
  size_.store(n, std::memory_order_release);
  pages_.cut(n);
  pairs_.cut(n);
}

void Sequence::restore(const Snapshot& snapshot) {
  const Use use(*this, Use::For::kMoment);
  if (&snapshot.model() != model_.get()) throw InputError("the snapshot is of another model; read the tokens again");
  if (snapshot.format() != pages_.format()) {
    throw InputError("the snapshot keeps keys and values in another format; create the sequence with the same kv");
  }
  if (snapshot.content().size() > context_tokens_) {
    throw InputError("the snapshot holds " + std::to_string(snapshot.content().size()) +
                     " tokens, expected at most this sequence's context_tokens " + std::to_string(context_tokens_));
  }
  adopt(snapshot, snapshot.content().size());
}

std::shared_ptr<Sequence> Sequence::fork() {
  const Use use(*this, Use::For::kMoment);
  check_whole();
  auto twin = std::make_shared<Sequence>(model_, context_tokens_, pages_.format());
  const auto device = model_->lock_device();
  twin->pages_.replace(pages_.pinned());
  twin->pairs_.pages.replace(pairs_.pages.pinned());
  twin->state_.copy_from(state_);
  device.ops().synchronize();
  twin->content_ = content_;
  twin->committed_ = committed_;
  twin->pairs_.written = pairs_.written;
  twin->pairs_.committed = pairs_.committed;
  twin->size_.store(content_.size(), std::memory_order_release);
  twin->snapshots_ = snapshots_;
  return twin;
}

std::shared_ptr<Snapshot> Sequence::nearest(const Content& kept) const {
  std::shared_ptr<Snapshot> nearest;
  std::size_t reached = 0;
  for (const auto& weak : snapshots_) {
    const auto snapshot = weak.lock();
    if (!snapshot) continue;
    const Content& content = snapshot->content();
    const std::size_t length = std::min(content.size(), kept.size());
    if (length <= reached || snapshot->committed() > length) continue;
    if (!(content.size() <= kept.size() ? kept.begins_with(content) : content.begins_with(kept))) continue;
    nearest = snapshot;
    reached = length;
  }
  return nearest;
}

void Sequence::reset() {
  const auto device = model_->lock_device();
  is_torn_ = true;  // until the last step
  state_.clear();
  device.ops().synchronize();
  pages_.clear();
  pairs_.pages.clear();
  pairs_.note(0, 0);
  content_ = {};
  committed_ = 0;
  cut(0);
  is_torn_ = false;
}

void Sequence::require(std::size_t n, const char* verb) const {
  if (n <= content_.size()) return;
  throw InputError("cannot " + std::string(verb) + " to " + std::to_string(n) + " tokens, expected at most the " +
                   std::to_string(content_.size()) + " that the sequence holds");
}

void Sequence::rewind(std::size_t n) {
  const Use use(*this, Use::For::kMoment);
  check_whole();
  require(n, "rewind");
  if (n < committed_) {
    throw InputError("cannot rewind to " + std::to_string(n) + " tokens: the first " + std::to_string(committed_) +
                     " are certain; truncate() evaluates again what lies behind a snapshot");
  }
  cut(n);
}

std::size_t Sequence::truncate(std::size_t n, std::size_t chunk_tokens, const std::function<void()>& pause) {
  const Use use(*this, Use::For::kEvaluating);
  require(n, "truncate");
  if (n >= committed_ && !is_torn_) {
    cut(n);
    return 0;
  }
  const Content kept = content_.first(n);
  const auto from = nearest(kept);
  const std::size_t start = from ? std::min(from->content().size(), n) : 0;
  if (kept.has_inputs(start, n)) {
    throw InputError("rows " + std::to_string(start) + " to " + std::to_string(n) +
                     " would have to be evaluated again, and some are not tokens and were not kept; truncate to before "
                     "them, or keep a snapshot behind them");
  }
  if (from) {
    adopt(*from, start);
  } else {
    reset();
  }
  evaluate(use, kept.tokens().subspan(start), chunk_tokens, pause);
  return n - start;
}

}  // namespace qwen35
