#include "sequence/draft.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <string>
#include <unordered_set>

#include "backend/top_k.h"
#include "base/error.h"
#include "model/forward.h"
#include "sequence/stepper.h"

namespace qwen35 {

namespace {

// Tokens that a draft's probability is among: to sum up all takes longer than a layer.
constexpr std::size_t kLikely = 64;

}  // namespace

class Drafter {
 public:
  Drafter(Model& model, std::span<const DraftItem> items);

  std::vector<std::vector<Draft>> run();

 private:
  struct Line {  // an item at work
    const DraftItem* item;
    std::vector<std::uint32_t> mask;  // over the rows of the head
    std::vector<Draft>* drafts;
    std::vector<Position> positions = {};  // of its pairs
    bool is_over = false;
    float product = 1.0F;  // of the probabilities
  };

  void check(const DraftItem& item) const;
  void compose(std::size_t n);
  void choose(Backend& ops, const Activations& s, std::size_t n);
  void choose(Backend& ops, Line& line, Tensor row, std::size_t n);

  Model& model_;
  const MtpWeights& block_;
  std::vector<std::vector<Draft>> drafts_;
  std::vector<Sequence::Use> uses_;
  std::vector<Line> lines_;  // that which wants most first, so that those still at work are the first ones
  LatePairs late_;
  StepArrays step_;
};

namespace {

const MtpWeights& block_of(const Model& model) {
  if (model.draft_block() != nullptr) return *model.draft_block();
  throw InputError("the model has no block that drafts, or was loaded with drafts=0");
}

}  // namespace

Drafter::Drafter(Model& model, std::span<const DraftItem> items)
    : model_(model), block_(block_of(model)), drafts_(items.size()), late_(model) {
  std::unordered_set<const Sequence*> seen;
  for (std::size_t i = 0; i < items.size(); ++i) {
    const DraftItem& item = items[i];
    if (&item.sequence->model() != &model || !seen.insert(item.sequence).second) {
      throw InputError("an item drafts for a sequence of another model, or for the same one as an item before it");
    }
    uses_.emplace_back(*item.sequence, Sequence::Use::For::kMoment);
    check(item);
    if (item.most > 0) lines_.push_back({.item = &item, .mask = block_.drafted.mask(item.mask), .drafts = &drafts_[i]});
  }
  std::ranges::stable_sort(lines_, std::greater{}, [](const Line& line) { return line.item->most; });
  for (Line& line : lines_) {
    const Content& content = line.item->sequence->content_;
    line.positions.push_back(content.previous({}));
    content.place(line.item->most - 1, {}, line.positions);
  }
}

void Drafter::check(const DraftItem& item) const {
  item.sequence->check_whole();
  check_tokens(model_.config(), {&item.token, 1});
  if (item.sequence->content_.size() == 0) throw InputError("a draft goes on behind a token; the sequence has none");
  item.sequence->content_.check(item.most, {});
  const std::size_t room = item.sequence->context_tokens_ - item.sequence->content_.size();
  if (item.most > model_.drafts() || item.most > room) {
    throw InputError(std::to_string(item.most) + " drafts, expected at most the " + std::to_string(model_.drafts()) +
                     " that the model was loaded for, and the " + std::to_string(room) +
                     " that the context has room for");
  }
}

// The pairs of the n-th draft of every line that is still at work. All tokens that a sequence holds count as certain
// here: whatever is taken back later, drafts go on behind them.
void Drafter::compose(std::size_t n) {
  step_.clear();
  for (const Line& line : lines_) {
    if (line.item->most <= n || line.is_over) break;
    Sequence& sequence = *line.item->sequence;
    const auto first = static_cast<std::uint32_t>(step_.tokens.size());
    const auto position = static_cast<std::uint32_t>(sequence.content_.size() + n);
    StepSegment segment{.first = first,
                        .count = 1,
                        .position = pairs(position),
                        .committed = pairs(static_cast<std::uint32_t>(sequence.content_.size())),
                        .certain = 0,
                        .state = sequence.state_.slot(),
                        .format{},
                        .plain_pages{},
                        .quantised_pages{}};
    sequence.pairs_.pages.make_writable(segment);
    sequence.pairs_.pages.list(step_.page_table, segment);
    step_.segments.push_back(segment);
    step_.tokens.push_back(n == 0 ? line.item->token : line.drafts->back().token);
    step_.positions.push_back(line.positions[n]);
  }
}

void Drafter::choose(Backend& ops, const Activations& s, std::size_t n) {
  for (std::size_t first = 0; first < s.last.rows; first += s.logits.rows) {
    const std::size_t count = std::min(s.logits.rows, s.last.rows - first);
    Tensor logits = s.logits.first_rows(count);
    logits.cols = block_.drafted.rows();
    Tensor frequent = logits, last = logits;
    frequent.cols = block_.drafted.frequent;
    last.data = logits.data + frequent.cols;
    last.cols = logits.cols - frequent.cols;
    const Projection parts[] = {{frequent, block_.frequent_head}, {last, block_.last_head}};
    ops.matmul(s.last.rows_from(first, count), std::span(parts, block_.drafted.is_whole() ? 1 : 2));
    for (std::size_t i = 0; i < count; ++i) choose(ops, lines_[first + i], logits.rows_from(i, 1), n);
  }
}

void Drafter::choose(Backend& ops, Line& line, Tensor row, std::size_t n) {
  LogitEdits edits;
  if (n == 0) edits.allowed = line.mask;
  Candidate best[kLikely];
  std::size_t found = 0;
  try {
    found = ops.top_k(best, row, edits);
  } catch (const InputError&) {  // a logit that is none: there is nothing to draft here
  }
  line.is_over = found == 0;
  if (line.is_over) return;
  const auto token = static_cast<Token>(block_.drafted.token(static_cast<std::size_t>(best[0].id)));
  double sum = 0.0;
  for (std::size_t i = 0; i < found; ++i) sum += std::exp(best[i].logit - best[0].logit);
  const auto probability = static_cast<float>(1.0 / sum);
  line.product *= probability;
  line.is_over = line.product < line.item->least;
  if (!line.is_over) line.drafts->push_back({token, probability});
}

std::vector<std::vector<Draft>> Drafter::run() {
  auto device = model_.lock_device();
  Backend& ops = device.ops();
  for (const Line& line : lines_) late_.add(*line.item->sequence);
  late_.run(device);
  for (std::size_t n = 0;; ++n) {
    std::ranges::stable_partition(lines_, [](const Line& line) { return !line.is_over; });
    compose(n);
    if (step_.tokens.empty()) break;
    const Activations s = device.reserve(step_.view(), std::min<std::size_t>(step_.tokens.size(), 32));
    ops.run(step_.view(), [&] {
      if (n == 0) ops.kept_rows(s.h);
      draft_layer(ops, block_, model_.config(), model_.rope(), s, n == 0 ? s.h : s.last);
    });
    choose(ops, s, n);
  }
  ops.synchronize();
  for (const Line& line : lines_) line.item->sequence->pairs_.cut(line.item->sequence->content_.size());
  return std::move(drafts_);
}

std::vector<std::vector<Draft>> draft(Model& model, std::span<const DraftItem> items) {
  return Drafter(model, items).run();
}

}  // namespace qwen35
