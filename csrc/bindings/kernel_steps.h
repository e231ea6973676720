// What the kernels' steps are made of in tests: pages, states, and segments that lie in them.
#pragma once

#include <pybind11/numpy.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "backend/backend.h"

namespace qwen35 {

using Range = std::tuple<std::size_t, std::size_t, std::size_t>;  // first row, rows, position; or heads, G, width

AttentionShape attention_shape(const Range& s);

// The pages of one sequence in one attention layer. The first `blank` of them are one and the same, for tests at far
// positions that have no history.
class KvCache {
 public:
  KvCache(Backend& on, const std::string& format, const Range& shape, std::size_t count, std::size_t blank);

  KvFormat format() const noexcept { return pool_->spec().format; }
  const AttentionShape& shape() const noexcept { return pool_->spec().shape; }
  pybind11::bytes bytes(PageForm form, std::size_t page) const;

  std::vector<PageId> plain, quantised;

 private:
  std::unique_ptr<KvPool> pool_;
};

// What one sequence, or a snapshot of it, keeps in one DeltaNet layer; nothing before its first token.
class DeltaState {
 public:
  DeltaState(Backend& on, const DeltaShape& shape, std::uint32_t uncertain, std::size_t hidden, bool is_saved);

  SlotId slot() const noexcept { return slot_; }
  void copy_from(const DeltaState& other);

 private:
  std::unique_ptr<StatePool> pool_;
  SlotId slot_;
};

// What was committed before a segment, and how many of its rows are certain.
using Commits = std::vector<std::pair<std::uint32_t, std::uint32_t>>;

// A step of `rows` rows, with the pages or the states of its segments where there are some. Without `commits` all rows
// are certain.
StepArrays make_step(pybind11::ssize_t rows, const std::vector<Range>& ranges, const std::vector<KvCache*>& caches,
                     const std::vector<DeltaState*>& states, const Commits& commits);

}  // namespace qwen35
