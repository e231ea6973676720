// The pass behind step() and evaluate(): which rows of which items it takes, and what they leave.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "backend/top_k.h"
#include "model/model.h"
#include "sequence/stepper.h"

namespace qwen35 {

// An item that takes part, from pass to pass.
struct Entry {
  const StepItem* item;
  const Sequence::Use* use;
  StepResult* result;

  std::size_t remaining() const noexcept { return result->error ? 0 : item->tokens.size() - result->evaluated; }
  // Of the next `room` rows. Uncertain tokens share a pass, since the next pass commits what it finds; with the token
  // before them, where they are verified.
  std::size_t within(std::size_t room) const noexcept {
    return remaining() <= room ? remaining() : std::min(room, remaining() - item->together());
  }
};

class Stepper {
 public:
  // Rows of logits computed at a time: V is large, and a few rows already share one pass over the head's weights.
  static constexpr std::size_t kLogitRows = 32;

  Stepper(Model& model, std::vector<Entry> entries, std::size_t rows)
      : model_(model), entries_(std::move(entries)), rows_(rows), draft_(model.draft_block()), late_(model) {}

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
    bool writes_pairs;
  };
  struct Head {  // an output row whose logits are needed
    std::size_t output;
    const Part* part;
    bool is_downloaded;
    std::optional<std::size_t> draw;  // which one of its item
  };

  void compose();
  void add(Entry& entry, std::size_t count);
  bool place(Sequence& sequence, std::uint32_t count, std::uint32_t certain, std::span<const InputRows> inputs);
  bool reserve_pairs(Sequence& sequence, const StepSegment& segment, bool has_inputs);
  void upload_inputs(Model::DeviceLock& device);
  Step draft_step() const;
  std::vector<Head> heads() const;
  void fetch_hidden(Backend& ops, const Activations& s);
  void fetch_logits(Backend& ops, const Activations& s, std::span<const Head> heads);
  void use_logits(Backend& ops, const Head& head, Tensor row);
  Sampled draw(Backend& ops, const StepItem& item, Tensor row, const float* downloaded);
  Sampled draw_best(Backend& ops, const StepItem& item, Tensor row, std::size_t needed);

  Model& model_;
  std::vector<Entry> entries_;
  std::size_t rows_;
  const MtpWeights* const draft_;  // null: nothing is kept for drafts
  LatePairs late_;
  StepArrays step_;
  std::vector<StepSegment> draft_segments_;  // of the same rows, as the block that drafts takes them
  std::vector<Position> draft_positions_;
  std::vector<PageId> draft_pages_;
  std::vector<Part> parts_;
  std::vector<Candidate> best_;
  std::vector<float> row_;
};

}  // namespace qwen35
