// One mutable timeline over a model: tokens, pages of keys and values, recurrent state. Whoever touches it holds a Use;
// only cancel() may come from elsewhere meanwhile.
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "model/model.h"
#include "sequence/pairs.h"
#include "sequence/snapshot.h"
#include "sequence/state.h"

namespace qwen35 {

class Sequence {
 public:
  // context_tokens 0: the model's. Throws InputError beyond it.
  Sequence(std::shared_ptr<Model> model, std::size_t context_tokens, KvFormat format);

  Model& model() const noexcept { return *model_; }
  std::size_t size() const noexcept { return size_.load(std::memory_order_acquire); }
  std::size_t context_tokens() const noexcept { return context_tokens_; }

  std::vector<Token> tokens();
  std::vector<InputRun> inputs();
  std::int32_t rope_delta();  // Content::rope_delta
  std::size_t committed();    // of the tokens, those that rewind() cannot take back
  std::size_t state_bytes();

  std::shared_ptr<Snapshot> snapshot();
  void restore(const Snapshot& snapshot);
  std::shared_ptr<Sequence> fork();
  // Takes back uncertain tokens down to n, committed() <= n <= size(): nothing is evaluated.
  void rewind(std::size_t n);
  // Returns how many tokens were read again. `pause` as in evaluate(). Throws InputError, with nothing changed, where
  // rows that are not tokens would have to be read again: they are not kept.
  std::size_t truncate(std::size_t n, std::size_t chunk_tokens, const std::function<void()>& pause);
  void cancel() noexcept;

  // The right to touch a sequence; throws InputError when another thread has it.
  class Use {
   public:
    enum class For { kMoment, kEvaluating };  // only reading can be cancelled
    Use(Sequence& sequence, For purpose);
    Use(Use&& other) noexcept : sequence_(std::exchange(other.sequence_, nullptr)) {}
    Use& operator=(Use&&) = delete;
    ~Use();

    Sequence& sequence() const noexcept { return *sequence_; }
    void check_cancelled() const;

   private:
    Sequence* sequence_;
  };

 private:
  friend class Stepper;
  friend class Drafter;
  friend class LatePairs;
  enum class Activity { kIdle, kBusy, kEvaluating, kCancelled };

  void check_whole() const;
  // The snapshot that shares the most tokens with `kept` and can be rewound to them, or null.
  std::shared_ptr<Snapshot> nearest(const Content& kept) const;
  void reset();                                         // to no tokens
  void adopt(const Snapshot& snapshot, std::size_t n);  // its first n tokens
  void cut(std::size_t n) noexcept;
  void require(std::size_t n, const char* verb) const;

  std::shared_ptr<Model> model_;
  std::size_t context_tokens_;
  Content content_;
  std::atomic<std::size_t> size_ = 0;  // of content_, for other threads
  std::size_t committed_ = 0;          // tokens from here on may be taken back; the state is committed to here
  KvPages pages_;
  Pairs pairs_;  // of the block that drafts
  RecurrentState state_;
  std::vector<std::weak_ptr<Snapshot>> snapshots_;  // taken on this timeline, oldest first
  bool is_torn_ = false;  // a pass failed midway: recurrent state stands between two positions
  std::atomic<Activity> activity_ = Activity::kIdle;
};

}  // namespace qwen35
