// The most likely tokens of a row that stays on the card: the largest logit of each block comes to the host, which then
// asks for the tokens that can be among the best.
#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <limits>

#include "base/round_up.h"
#include "devices/cuda/cuda_backend.h"

namespace qwen35::cuda {
namespace {

constexpr float kExcluded = -std::numeric_limits<float>::infinity();

// Of the memory that a call takes, in bytes from its start.
struct Places {
  std::size_t list, count, maxima, ids, named, bytes;

  Places(std::size_t blocks, std::size_t edits)
      : list(0),
        count(list + kMostLikelyTokens * sizeof(LikelyToken)),
        maxima(count + sizeof(std::uint64_t)),
        ids(maxima + blocks * sizeof(float)),
        named(ids + edits * sizeof(int)),
        bytes(named + edits * sizeof(float)) {}
};

}  // namespace

std::size_t top_k_bytes(std::size_t vocabulary) {
  const std::size_t blocks = ceil_div(vocabulary, kMaximaLogits);
  return std::bit_ceil(Places(blocks, blocks).bytes);
}

std::size_t CudaBackend::do_top_k(std::span<Candidate> out, Tensor logits, const LogitEdits& edits) {
  candidates_.clear();
  if (!list_likely(logits, out.size(), edits)) return rank_row(out, logits, edits);
  const std::size_t found = std::min(out.size(), candidates_.size());
  std::ranges::partial_sort(candidates_, candidates_.begin() + static_cast<std::ptrdiff_t>(found), MoreLikely{});
  std::copy_n(candidates_.begin(), found, out.begin());
  return found;
}

// The whole row comes to the host, which edits and ranks it.
std::size_t CudaBackend::rank_row(std::span<Candidate> out, Tensor logits, const LogitEdits& edits) {
  logits_.resize(logits.cols);
  download(reinterpret_cast<std::byte*>(logits_.data()), logits.data.as<const std::byte>(),
           logits.cols * sizeof(float));
  const auto best = top_k_.select(logits_, out.size(), edits);
  std::ranges::copy(best, out.begin());
  return best.size();
}

// The k best of what is not edited are among the k + edits best of the row, and those are not below the (k + edits)-th
// largest of the blocks' maxima. False where that does not narrow the row down, or a logit is no number.
bool CudaBackend::list_likely(Tensor logits, std::size_t k, const LogitEdits& edits) {
  const std::size_t blocks = ceil_div(logits.cols, kMaximaLogits), count = edits.tokens.size(), most = k + count;
  if (!edits.allowed.empty() || most > blocks || most > kMostLikelyTokens / 2) return false;
  const Places at(blocks, count);
  auto* memory = picks_.take<std::byte>(*memory_, at.bytes);
  auto* maxima = reinterpret_cast<float*>(memory + at.maxima);
  const auto cols = static_cast<unsigned>(logits.cols);
  launch<Kernel::block_maxima>({ceil_div(blocks, kRowThreads / kWarp)}, {on_card(logits.data), maxima, cols, 0});
  logits_.resize(std::max(blocks, count));
  context_->download(logits_.data(), address(maxima), blocks * sizeof(float));
  const auto end = logits_.begin() + static_cast<std::ptrdiff_t>(blocks);
  if (std::any_of(logits_.begin(), end, [](float largest) { return std::isnan(largest); })) return false;
  const auto place = logits_.begin() + static_cast<std::ptrdiff_t>(most - 1);
  std::nth_element(logits_.begin(), place, end, std::greater<>{});
  const float least = *place;

  ids_.resize(count);
  std::ranges::transform(edits.tokens, ids_.begin(), &EditedToken::id);
  context_->upload(address(memory + at.ids), ids_.data(), count * sizeof(int));
  context_->fill(address(memory + at.count), 0, sizeof(unsigned));
  const LikelyTokensArgs args{.logits = on_card(logits.data),
                              .list = reinterpret_cast<LikelyToken*>(memory + at.list),
                              .count = reinterpret_cast<unsigned*>(memory + at.count),
                              .ids = reinterpret_cast<const int*>(memory + at.ids),
                              .named = reinterpret_cast<float*>(memory + at.named),
                              .least = least,
                              .cols = cols,
                              .id_count = static_cast<unsigned>(count),
                              .padding = 0};
  launch<Kernel::likely_tokens>({ceil_div(std::max(logits.cols, count), kRowThreads)}, args);
  listed_.resize(kMostLikelyTokens + 1);  // and behind them their number
  context_->download(listed_.data(), address(memory + at.list), at.count + sizeof(unsigned));
  const unsigned listed = std::bit_cast<unsigned>(listed_.back().logit);
  if (listed > kMostLikelyTokens) return false;
  context_->download(logits_.data(), address(memory + at.named), count * sizeof(float));
  collect(edits, listed);
  return true;
}

// Candidates of the first `listed` entries and of the edited tokens, whose logits lie in logits_.
void CudaBackend::collect(const LogitEdits& edits, std::size_t listed) {
  std::ranges::sort(ids_);
  for (const LikelyToken& token : std::span(listed_).first(listed)) {
    const auto id = static_cast<std::int32_t>(token.id);
    if (token.logit != kExcluded && !std::ranges::binary_search(ids_, id)) candidates_.push_back({token.logit, id});
  }
  for (std::size_t i = 0; i < edits.tokens.size(); ++i) {
    const double edited = edits.apply(logits_[i], edits.tokens[i]);
    if (edited != static_cast<double>(kExcluded)) candidates_.push_back({edited, edits.tokens[i].id});
  }
}

}  // namespace qwen35::cuda
