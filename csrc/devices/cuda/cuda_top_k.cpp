// The most likely tokens of a row that stays on the card: the largest logit of each block comes to the host, which then
// asks for the tokens that can be among the best. A grammar's mask goes the other way.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>

#include "base/round_up.h"
#include "devices/cuda/cuda_backend.h"

namespace qwen35::cuda {

// Of the memory that a call takes, in bytes from its start.
struct PickPlaces {
  std::size_t list, count, total, maxima, sums, allowed, ids, named, bytes;

  PickPlaces(std::size_t cols, std::size_t edits)
      : list(0),
        count(list + kMostLikelyTokens * sizeof(LikelyToken)),
        total(count + sizeof(std::uint64_t)),
        maxima(total + sizeof(RowSum)),
        sums(maxima + ceil_div(cols, kMaximaLogits) * sizeof(float)),
        allowed(sums + ceil_div(cols, kMaximaLogits) * sizeof(BlockSum)),
        ids(allowed + ceil_div(cols, 32) * sizeof(std::uint32_t)),
        named(ids + edits * sizeof(int)),
        bytes(named + edits * sizeof(float)) {}
};

namespace {

constexpr float kExcluded = -std::numeric_limits<float>::infinity();
constexpr std::size_t kTotalFloats = sizeof(RowSum) / sizeof(float);  // that lie before the maxima

// Of a mask, what concerns a row of so many logits.
std::size_t mask_words(std::span<const std::uint32_t> allowed, std::size_t cols) {
  return std::min(allowed.size(), ceil_div(cols, 32));
}

TokenMask mask_at(const std::byte* memory, const PickPlaces& at, std::span<const std::uint32_t> allowed,
                  std::size_t cols) {
  if (allowed.empty()) return {nullptr, 0};
  return {reinterpret_cast<const unsigned*>(memory + at.allowed), mask_words(allowed, cols)};
}

}  // namespace

std::size_t top_k_bytes(std::size_t vocabulary) {
  return std::bit_ceil(PickPlaces(vocabulary, ceil_div(vocabulary, kMaximaLogits)).bytes);
}

// The k best of what is not edited are among the k + edits best of the row, and those are not below the (k + edits)-th
// largest of the blocks' maxima. Where that does not narrow the row down, the host has it whole.
std::size_t CudaBackend::do_top_k(std::span<Candidate> out, Tensor logits, const LogitEdits& edits, double* log_sum) {
  const std::size_t most = out.size() + edits.tokens.size();
  const bool narrows = most <= ceil_div(logits.cols, kMaximaLogits) && most <= kMostLikelyTokens / 2;
  const PickPlaces at(logits.cols, narrows ? edits.tokens.size() : 0);
  candidates_.clear();
  if (narrows || log_sum != nullptr)
    find_maxima(logits, narrows ? edits.allowed : decltype(edits.allowed){}, at, log_sum);
  if (!narrows || !list_likely(logits, most, edits, at)) return rank_row(out, logits, edits);
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

// Leaves the blocks' maxima in logits_, behind kTotalFloats.
void CudaBackend::find_maxima(Tensor logits, std::span<const std::uint32_t> allowed, const PickPlaces& at,
                              double* log_sum) {
  const std::size_t blocks = ceil_div(logits.cols, kMaximaLogits);
  auto* memory = picks_.take<std::byte>(*memory_, at.bytes);
  auto* sums = log_sum == nullptr ? nullptr : reinterpret_cast<BlockSum*>(memory + at.sums);
  if (!allowed.empty()) {
    context_->upload(address(memory + at.allowed), allowed.data(), mask_words(allowed, logits.cols) * sizeof(unsigned));
  }
  launch<Kernel::block_maxima>({ceil_div(blocks, kRowThreads / kWarp)},
                               {.logits = on_card(logits.data),
                                .allowed = mask_at(memory, at, allowed, logits.cols),
                                .largest = reinterpret_cast<float*>(memory + at.maxima),
                                .sums = sums,
                                .cols = static_cast<unsigned>(logits.cols),
                                .padding = 0});
  if (sums != nullptr) {
    launch<Kernel::sum_blocks>({1}, {sums, reinterpret_cast<RowSum*>(memory + at.total), blocks});
  }
  logits_.resize(kTotalFloats + blocks);
  context_->download(logits_.data(), address(memory + at.total), logits_.size() * sizeof(float));
  if (log_sum == nullptr) return;
  RowSum total;
  std::memcpy(&total, logits_.data(), sizeof total);
  *log_sum = total.largest == kExcluded ? static_cast<double>(kExcluded)
                                        : static_cast<double>(total.largest) + std::log(total.sum);
}

// Fills candidates_ from the tokens that can be among the `most` best of the row. False where there are too many of
// them, or a logit is no number.
bool CudaBackend::list_likely(Tensor logits, std::size_t most, const LogitEdits& edits, const PickPlaces& at) {
  const std::size_t count = edits.tokens.size();
  const auto maxima = std::span(logits_).subspan(kTotalFloats);
  if (std::ranges::any_of(maxima, [](float largest) { return std::isnan(largest); })) return false;
  const auto place = maxima.begin() + static_cast<std::ptrdiff_t>(most - 1);
  std::nth_element(maxima.begin(), place, maxima.end(), std::greater<>{});
  const float least = *place;

  auto* memory = picks_.get<std::byte>();
  ids_.resize(count);
  std::ranges::transform(edits.tokens, ids_.begin(), &EditedToken::id);
  context_->upload(address(memory + at.ids), ids_.data(), count * sizeof(int));
  context_->fill(address(memory + at.count), 0, sizeof(unsigned));
  const LikelyTokensArgs args{.logits = on_card(logits.data),
                              .list = reinterpret_cast<LikelyToken*>(memory + at.list),
                              .count = reinterpret_cast<unsigned*>(memory + at.count),
                              .allowed = mask_at(memory, at, edits.allowed, logits.cols),
                              .ids = reinterpret_cast<const int*>(memory + at.ids),
                              .named = reinterpret_cast<float*>(memory + at.named),
                              .least = least,
                              .cols = static_cast<unsigned>(logits.cols),
                              .id_count = static_cast<unsigned>(count),
                              .padding = 0};
  launch<Kernel::likely_tokens>({ceil_div(std::max(logits.cols, count), kRowThreads)}, args);
  listed_.resize(kMostLikelyTokens + 1);  // and behind them their number
  context_->download(listed_.data(), address(memory + at.list), at.count + sizeof(unsigned));
  const unsigned listed = std::bit_cast<unsigned>(listed_.back().logit);
  if (listed > kMostLikelyTokens) return false;
  logits_.resize(count);
  context_->download(logits_.data(), address(memory + at.named), count * sizeof(float));
  collect(edits, listed);
  return true;
}

// Candidates of the first `listed` entries and of the edited tokens, whose logits lie in logits_.
void CudaBackend::collect(const LogitEdits& edits, std::size_t listed) {
  std::ranges::sort(ids_);
  for (const LikelyToken& token : std::span(listed_).first(listed)) {
    const auto id = static_cast<std::int32_t>(token.id);
    if (!std::ranges::binary_search(ids_, id)) candidates_.push_back({token.logit, id, token.logit});
  }
  for (std::size_t i = 0; i < edits.tokens.size(); ++i) {
    const EditedToken& token = edits.tokens[i];
    const double edited = edits.apply(logits_[i], token);
    if (edited == static_cast<double>(kExcluded) || !edits.allows(token.id)) continue;
    candidates_.push_back({edited, token.id, logits_[i]});
  }
}

}  // namespace qwen35::cuda
