#include "devices/cuda/quantised_memo.h"

#include <algorithm>

#include "base/round_up.h"

namespace qwen35::cuda {
namespace {

constexpr std::size_t kAlignment = 256;

std::size_t code_bytes(std::size_t values) noexcept { return round_up(values, kAlignment); }

std::uintptr_t end_of(Tensor x) noexcept {
  return x.rows == 0 ? x.data.address() : (x.data + ((x.rows - 1) * x.stride + x.cols)).address();
}

bool overlap(Tensor a, Tensor b) noexcept { return a.data.address() < end_of(b) && b.data.address() < end_of(a); }

bool is_same(Tensor a, Tensor b) noexcept {
  return a.data == b.data && a.rows == b.rows && a.cols == b.cols && (a.stride == b.stride || a.rows == 1);
}

}  // namespace

std::size_t QuantisedMemo::bytes(std::size_t values) noexcept {
  return code_bytes(values) + round_up(values / kBlockColumns * sizeof(BlockSums), kAlignment);
}

void QuantisedMemo::reserve(Memory& memory, std::size_t values) {
  if (values <= values_) return;
  std::array<Piece, kMostQuantised> pieces;
  for (Piece& piece : pieces) piece = memory.take(bytes(values));
  memory_ = std::move(pieces);
  values_ = values;
  forget_all();
}

QuantisedRows QuantisedMemo::find(Tensor x) const noexcept {
  for (const Entry& entry : entries_) {
    if (entry.rows.codes != nullptr && is_same(entry.of, x)) return entry.rows;
  }
  return {};
}

QuantisedRows QuantisedMemo::place(Memory& memory, Tensor x) {
  const std::size_t values = x.rows * x.cols;
  if (values == 0 || x.cols % kBlockColumns != 0) return {};
  reserve(memory, values);
  const auto oldest = std::ranges::min_element(entries_, {}, &Entry::used);
  auto* codes = reinterpret_cast<signed char*>(memory_[static_cast<std::size_t>(oldest - entries_.begin())].get());
  *oldest = {x, {codes, reinterpret_cast<BlockSums*>(codes + code_bytes(values))}, ++uses_};
  return oldest->rows;
}

void QuantisedMemo::forget(Tensor x) noexcept {
  for (Entry& entry : entries_) {
    if (entry.rows.codes != nullptr && overlap(entry.of, x)) entry = {};
  }
}

void QuantisedMemo::forget_all() noexcept { entries_ = {}; }

}  // namespace qwen35::cuda
