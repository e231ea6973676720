#include "sequence/pairs.h"

#include <algorithm>
#include <cstdint>

#include "model/forward.h"
#include "sequence/sequence.h"

namespace qwen35 {

void Pairs::cut(std::size_t tokens) noexcept {
  written = std::min(written, pairs(tokens));
  pages.cut(pairs(tokens));
}

void Pairs::note(std::size_t tokens, std::size_t certain_tokens) noexcept {
  written = pairs(tokens);
  committed = pairs(certain_tokens);
}

void LatePairs::add(Sequence& sequence) {
  if (model_.draft_block() == nullptr) return;
  Pairs& kept = sequence.pairs_;
  const Content& content = sequence.content_;
  const std::size_t end = pairs(content.size()), certain = pairs(sequence.committed_);
  if (kept.written == end && kept.committed == certain) return;
  // What was written and could be taken back is certain from here on, or written again.
  const std::size_t first = std::min({kept.written, certain, end - 1});
  StepSegment segment{.first = static_cast<std::uint32_t>(step_.tokens.size()),
                      .count = static_cast<std::uint32_t>(end - first),
                      .position = static_cast<std::uint32_t>(first),
                      .committed = static_cast<std::uint32_t>(std::min(kept.committed, first)),
                      .certain = static_cast<std::uint32_t>(certain - first),
                      .state = sequence.state_.slot(),
                      .format{},
                      .plain_pages{},
                      .quantised_pages{}};
  kept.pages.make_writable(segment);
  kept.pages.list(step_.page_table, segment);
  step_.segments.push_back(segment);
  for (std::size_t p = first; p < end; ++p) {
    step_.tokens.push_back(content.tokens()[p + 1]);
    step_.positions.push_back(content.position(p));
  }
  sequences_.push_back(&sequence);
}

void LatePairs::run(Model::DeviceLock& device) {
  if (sequences_.empty()) return;
  Backend& ops = device.ops();
  const Activations s = device.reserve(step_.view(), 0);
  ops.run(step_.view(), [&] {
    ops.kept_rows(s.h);
    append_pairs(ops, *model_.draft_block(), model_.config(), model_.rope(), s);
  });
  for (Sequence* sequence : sequences_) sequence->pairs_.note(sequence->content_.size(), sequence->committed_);
  sequences_.clear();
  step_.clear();
}

}  // namespace qwen35
