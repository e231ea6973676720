// Products with chosen experts. (token, slot) pairs are sorted by expert, so that each expert's panels stream once for
// all rows that chose it; every pair's result has its own place, and slots are added up in order.
#include <algorithm>
#include <string>

#include "base/error.h"
#include "devices/cpu/cpu_backend.h"
#include "devices/cpu/matmul.h"

namespace qwen35::cpu {
namespace {

struct ActiveExpert {
  std::size_t expert;
  std::size_t first;  // its pairs in the sorted list
  std::size_t count;
  const RoundedTile* tiles = nullptr;  // their rows joined, when that pays

  RowLists rows(const RowLists& all) const noexcept {
    RowLists mine = all.part(first, count);
    mine.tiles = tiles;
    return mine;
  }
};

// Pairs (token, slot), numbered token * chosen + slot, sorted by expert and within one expert by number.
struct Routing {
  std::vector<std::size_t> pairs;
  std::vector<ActiveExpert> active;
};

Routing sort_pairs(const std::int32_t* experts, std::size_t pairs, std::size_t expert_count) {
  Routing routing{std::vector<std::size_t>(pairs), {}};
  std::vector<std::size_t> next(expert_count, 0);
  for (std::size_t i = 0; i < pairs; ++i) {
    if (experts[i] < 0 || static_cast<std::size_t>(experts[i]) >= expert_count) {
      throw InputError("experts: number " + std::to_string(experts[i]) + " is outside the " +
                       std::to_string(expert_count) + " experts");
    }
    ++next[static_cast<std::size_t>(experts[i])];
  }
  std::size_t first = 0;
  for (std::size_t e = 0; e < expert_count; ++e) {
    const std::size_t count = next[e];
    if (count != 0) routing.active.push_back({.expert = e, .first = first, .count = count});
    next[e] = first;
    first += count;
  }
  for (std::size_t i = 0; i < pairs; ++i) routing.pairs[next[static_cast<std::size_t>(experts[i])]++] = i;
  return routing;
}

// Where `parts` matrices per expert lie in one weight: panels of part p of expert e begin at first(e, p).
struct ExpertPanels {
  ExpertPanels(const char* name, const Weight& weight, std::size_t experts, std::size_t parts, std::size_t part_rows)
      : w(packed(weight)), count((part_rows + kPanelRows - 1) / kPanelRows), parts_(parts) {
    // Packed by expert and part, or by expert alone when a part fills its panels.
    const bool by_part = w.groups() == experts * parts && w.group_rows() == part_rows;
    const bool by_expert = w.groups() == experts && w.group_rows() == parts * part_rows && part_rows % kPanelRows == 0;
    const bool flat = w.groups() == 1 && w.rows() == experts * parts * part_rows && part_rows % kPanelRows == 0;
    if (by_part || by_expert || flat) return;
    throw InputError(std::string(name) + ": a weight of " + std::to_string(w.rows()) + " rows in " +
                     std::to_string(w.groups()) + " groups does not hold " + std::to_string(experts) + " experts of " +
                     std::to_string(parts) + " x " + std::to_string(part_rows) +
                     " rows. Pack it with one group per expert and part");
  }

  std::size_t panel(std::size_t expert, std::size_t part, std::size_t i) const noexcept {
    return (expert * parts_ + part) * count + i;
  }

  const PackedWeight& w;
  std::size_t count;  // panels of one part

 private:
  std::size_t parts_;
};

// Row pointers in sorted order: pair i reads row source(i) of x. `outs` lists of places follow, for the caller to fill.
template <class Source>
RowLists list_rows(Scratch& lists, const RoundedBlock* rounded, Tensor x, const Routing& routing, std::size_t outs,
                   Source&& source) {
  const std::size_t n = routing.pairs.size(), blocks = x.cols / kRoundedColumns;
  auto* pointers = lists.reserve<std::byte>((2 + outs) * n * sizeof(void*));
  const RowLists rows{reinterpret_cast<const RoundedBlock**>(pointers),
                      reinterpret_cast<const float**>(pointers + n * sizeof(void*)),
                      reinterpret_cast<float**>(pointers + 2 * n * sizeof(void*)), n};
  for (std::size_t i = 0; i < n; ++i) {
    const std::size_t row = source(routing.pairs[i]);
    rows.rounded[i] = rounded == nullptr ? nullptr : rounded + row * blocks;
    rows.exact[i] = x.data + row * x.stride;
  }
  return rows;
}

const RoundedBlock* round_if_needed(Workers& workers, const MatmulTable& table, Scratch& input, Tensor x, bool needed) {
  if (!needed) return nullptr;
  auto* rounded = input.reserve<RoundedBlock>(x.rows * (x.cols / kRoundedColumns));
  round_tensor(workers, table, rounded, x);
  return rounded;
}

// Joins the rows of each expert that many rows chose.
void join_experts(Workers& workers, const MatmulTable& table, Scratch& memory, RowLists& rows, Routing& routing,
                  std::size_t blocks) {
  struct Group {
    std::size_t first, count;
  };
  std::vector<Group> groups;
  std::vector<std::size_t> firsts;  // group of each expert that joins
  for (const ActiveExpert& e : routing.active) {
    if (!joins_rows(table, e.count)) continue;
    firsts.push_back(groups.size());
    for (std::size_t i = 0; i < e.count; i += kTileTokens) {
      groups.push_back({e.first + i, std::min(kTileTokens, e.count - i)});
    }
  }
  if (groups.empty()) return;
  rows.blocks = blocks;
  auto* tiles = memory.reserve<RoundedTile>(groups.size() * blocks);
  workers.each(groups.size(), [&](std::size_t begin, std::size_t end, unsigned) {
    for (std::size_t g = begin; g < end; ++g) {
      table.join_rows(tiles + g * blocks, rows.rounded + groups[g].first, groups[g].count, blocks);
    }
  });
  auto first = firsts.begin();
  for (ActiveExpert& e : routing.active) {
    if (joins_rows(table, e.count)) e.tiles = tiles + *first++ * blocks;
  }
}

constexpr std::size_t kPiecePanels = 4;  // panels of one expert that a worker takes at a time

// x[t] += weights[t, 0] * products[t, 0] + weights[t, 1] * products[t, 1] + ..., the sum first.
void add_slots(Tensor x, const float* products, const float* weights, std::size_t chosen) noexcept {
  for (std::size_t t = 0; t < x.rows; ++t) {
    float sum[kPanelRows] = {};
    for (std::size_t slot = t * chosen; slot < (t + 1) * chosen; ++slot) {
      const float* product = products + slot * kPanelRows;
      for (std::size_t c = 0; c < kPanelRows; ++c) sum[c] += weights[slot] * product[c];
    }
    for (std::size_t c = 0; c < x.cols; ++c) x.data[t * x.stride + c] += sum[c];
  }
}

}  // namespace

void CpuBackend::moe_gather(Tensor out, Tensor h, const Weight& gate, const Weight* up, const std::int32_t* experts,
                            std::uint32_t chosen, std::uint32_t expert_count) {
  const std::size_t parts = up == nullptr ? 2 : 1;
  const std::size_t width = gate.rows() / (expert_count * parts);
  if (out.rows != h.rows * chosen || out.cols < width || h.cols != gate.cols()) {
    throw InputError("moe_gather: the output must hold " + std::to_string(h.rows * chosen) + " rows of " +
                     std::to_string(width));
  }
  const ExpertPanels gates("moe_gather", gate, expert_count, parts, width);
  const ExpertPanels ups("moe_gather", up == nullptr ? gate : *up, expert_count, parts, width);
  if (h.rows == 0) return;
  Routing routing = sort_pairs(experts, h.rows * chosen, expert_count);

  const auto turn = take_turn();
  const MatmulTable& table = table_.matmul;
  const bool rounds = rounds_input(gates.w.format()) || rounds_input(ups.w.format());
  const RoundedBlock* rounded = round_if_needed(workers_, table, input_, h, rounds);
  RowLists rows = list_rows(lists_, rounded, h, routing, 1, [&](std::size_t pair) { return pair / chosen; });
  if (rounds) join_experts(workers_, table, tiles_, rows, routing, h.cols / kRoundedColumns);
  for (std::size_t i = 0; i < rows.count; ++i) rows.out[i] = out.data + routing.pairs[i] * out.stride;

  const std::size_t pieces = (gates.count + kPiecePanels - 1) / kPiecePanels;
  workers_.each_item(routing.active.size() * pieces, [&](std::size_t item, unsigned) {
    const ActiveExpert& e = routing.active[item / pieces];
    const std::size_t begin = item % pieces * kPiecePanels;
    for (std::size_t p = begin; p < std::min(begin + kPiecePanels, gates.count); ++p) {
      swiglu_panel(table, gates.w, gates.panel(e.expert, 0, p), ups.w, ups.panel(e.expert, parts - 1, p), e.rows(rows),
                   p * kPanelRows);
    }
  });
}

void CpuBackend::moe_combine(Tensor x, Tensor h, const Weight& down, const std::int32_t* experts, const float* weights,
                             std::uint32_t chosen, std::uint32_t expert_count) {
  const std::size_t width = down.rows() / expert_count;
  if (h.rows != x.rows * chosen || x.cols != width || h.cols != down.cols()) {
    throw InputError("moe_combine: " + std::to_string(x.rows) + " rows of " + std::to_string(x.cols) + " want " +
                     std::to_string(x.rows * chosen) + " rows of " + std::to_string(down.cols()));
  }
  const ExpertPanels downs("moe_combine", down, expert_count, 1, width);
  if (x.rows == 0) return;
  Routing routing = sort_pairs(experts, h.rows, expert_count);

  const auto turn = take_turn();
  const MatmulTable& table = table_.matmul;
  const RoundedBlock* rounded = round_if_needed(workers_, table, input_, h, rounds_input(downs.w.format()));
  const std::size_t n = h.rows;
  RowLists rows = list_rows(lists_, rounded, h, routing, workers_.count(), [](std::size_t pair) { return pair; });
  if (rounded != nullptr) join_experts(workers_, table, tiles_, rows, routing, h.cols / kRoundedColumns);
  auto* products = product_.reserve<float>(workers_.count() * n * kPanelRows);
  for (std::size_t worker = 0; worker < workers_.count(); ++worker) {
    for (std::size_t i = 0; i < n; ++i) {
      rows.out[worker * n + i] = products + (worker * n + routing.pairs[i]) * kPanelRows;
    }
  }

  // One panel of outputs at a time: every pair's product into the worker's own scratch, then the slots in order.
  workers_.each(downs.count, [&](std::size_t begin, std::size_t end, unsigned worker) {
    RowLists mine = rows;
    mine.out += worker * n;
    for (std::size_t p = begin; p < end; ++p) {
      for (const ActiveExpert& e : routing.active) {
        multiply_panel(table, downs.w, downs.panel(e.expert, 0, p), e.rows(mine), 0, false);
      }
      const std::size_t column = p * kPanelRows;
      add_slots({x.data + column, x.rows, std::min(kPanelRows, width - column), x.stride},
                products + worker * n * kPanelRows, weights, chosen);
    }
  });
}

}  // namespace qwen35::cpu
