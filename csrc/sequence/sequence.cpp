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
    throw Cancelled("cancelled; the sequence stands at token " + std::to_string(sequence_->tokens_.size()));
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
  return tokens_;
}

std::size_t Sequence::state_bytes() {
  const Use use(*this, Use::For::kMoment);
  return pages_.bytes() + state_.bytes();
}

std::shared_ptr<Snapshot> Sequence::snapshot() {
  const Use use(*this, Use::For::kMoment);
  check_whole();
  const auto device = model_->lock_device();
  RecurrentState state = state_.copy();
  device.ops().synchronize();
  auto taken = std::make_shared<Snapshot>(model_, tokens_, pages_, std::move(state));
  std::erase_if(snapshots_, [](const auto& snapshot) { return snapshot.expired(); });
  snapshots_.push_back(taken);
  return taken;
}

void Sequence::adopt(const Snapshot& snapshot) {
  std::vector<Token> tokens(snapshot.tokens().begin(), snapshot.tokens().end());
  const auto device = model_->lock_device();
  is_torn_ = true;  // until the last step
  pages_.replace(snapshot.pages().pinned());
  state_.copy_from(snapshot.state());
  device.ops().synchronize();
  tokens_ = std::move(tokens);
  size_.store(tokens_.size(), std::memory_order_release);
  is_torn_ = false;
}

void Sequence::restore(const Snapshot& snapshot) {
  const Use use(*this, Use::For::kMoment);
  if (&snapshot.model() != model_.get()) throw InputError("the snapshot is of another model; read the tokens again");
  if (snapshot.format() != pages_.format()) {
    throw InputError("the snapshot keeps keys and values in another format; create the sequence with the same kv");
  }
  if (snapshot.tokens().size() > context_tokens_) {
    throw InputError("the snapshot holds " + std::to_string(snapshot.tokens().size()) +
                     " tokens, expected at most this sequence's context_tokens " + std::to_string(context_tokens_));
  }
  adopt(snapshot);
}

std::shared_ptr<Sequence> Sequence::fork() {
  const Use use(*this, Use::For::kMoment);
  check_whole();
  auto twin = std::make_shared<Sequence>(model_, context_tokens_, pages_.format());
  const auto device = model_->lock_device();
  twin->pages_.replace(pages_.pinned());
  twin->state_.copy_from(state_);
  device.ops().synchronize();
  twin->tokens_ = tokens_;
  twin->size_.store(tokens_.size(), std::memory_order_release);
  twin->snapshots_ = snapshots_;
  return twin;
}

std::size_t Sequence::return_to_prefix(std::size_t n) {
  const std::span<const Token> kept(tokens_.data(), n);
  std::shared_ptr<Snapshot> nearest;
  for (const auto& weak : snapshots_) {
    const auto snapshot = weak.lock();
    if (!snapshot || (nearest && snapshot->tokens().size() <= nearest->tokens().size())) continue;
    const auto tokens = snapshot->tokens();
    if (tokens.size() <= n && std::ranges::equal(tokens, kept.first(tokens.size()))) nearest = snapshot;
  }
  if (nearest) {
    adopt(*nearest);
    return nearest->tokens().size();
  }
  const auto device = model_->lock_device();
  is_torn_ = true;  // until the last step
  state_.clear();
  device.ops().synchronize();
  pages_.replace({});
  tokens_.clear();
  size_.store(0, std::memory_order_release);
  is_torn_ = false;
  return 0;
}

std::size_t Sequence::truncate(std::size_t n, std::size_t chunk_tokens, const std::function<void()>& pause) {
  const Use use(*this, Use::For::kEvaluating);
  if (n > tokens_.size()) {
    throw InputError("cannot truncate to " + std::to_string(n) + " tokens, expected at most the " +
                     std::to_string(tokens_.size()) + " that the sequence holds");
  }
  if (n == tokens_.size() && !is_torn_) return 0;
  const std::vector<Token> kept(tokens_.begin(), tokens_.begin() + static_cast<std::ptrdiff_t>(n));
  const std::size_t start = return_to_prefix(n);
  evaluate(use, std::span(kept).subspan(start), chunk_tokens, pause);
  return n - start;
}

}  // namespace qwen35
