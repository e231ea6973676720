// Products with the chosen experts. (token, slot) pairs are sorted by expert, so that each expert's panels stream once
// for all rows that chose it; every pair's result has its own place, and slots are added up in order. The shared expert
// is one more, whose rows follow the pairs in the lists.
#include <algorithm>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "devices/cpu/cpu_backend.h"
#include "devices/cpu/matmul.h"

namespace qwen35::cpu {
namespace {

struct ActiveExpert {
  std::size_t expert;
  std::size_t first;  // its rows in the lists
  std::size_t count;
  const QuantisedTile* tiles = nullptr;  // the rows interleaved, when that pays

  RowLists rows(const RowLists& all, std::size_t blocks) const noexcept {
    RowLists mine = all.part(first, count);
    mine.tiles = tiles;
    mine.blocks = blocks;
    return mine;
  }
};

// Pairs (token, slot), numbered token * top_k + slot, sorted by expert and within one expert by number.
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

// A tensor and, when a product reads it so, its rows in 8 bits.
struct Rows {
  Rows(Workers& workers, const MatmulTable& table, QuantisedBlock* to, Tensor from)
      : x(from), blocks(from.cols / kQuantisedColumns), quantised(to) {
    if (to != nullptr) quantise_tensor(workers, table, to, from);
  }

  Tensor x;
  std::size_t blocks;
  QuantisedBlock* quantised;
};

RowLists reserve_lists(Scratch& lists, std::size_t count, std::size_t outs) {
  auto* pointers = lists.reserve<std::byte>((2 + outs) * count * sizeof(void*));
  return {reinterpret_cast<const QuantisedBlock**>(pointers),
          reinterpret_cast<const float**>(pointers + count * sizeof(void*)),
          reinterpret_cast<float**>(pointers + 2 * count * sizeof(void*)), count};
}

// Entry i of the lists reads a row of a tensor; the caller fills in its places.
void list_row(const RowLists& lists, std::size_t i, const Rows& from, std::size_t row) noexcept {
  lists.quantised[i] = from.quantised == nullptr ? nullptr : from.quantised + row * from.blocks;
  lists.exact[i] = cpu::row(from.x, row);
}

// The shared expert's rows, from `first` in the lists on: as many at a time as one of a dense product.
std::vector<ActiveExpert> shared_rows(std::size_t first, std::size_t count, std::size_t cols) {
  std::vector<ActiveExpert> parts;
  const std::size_t most = rows_per_block(cols);
  for (std::size_t i = 0; i < count; i += most) {
    parts.push_back({.expert = 0, .first = first + i, .count = std::min(most, count - i)});
  }
  return parts;
}

// Joins the rows of each expert that many rows chose.
void interleave_experts(Workers& workers, const MatmulTable& table, Scratch& memory, const RowLists& rows,
                        std::span<ActiveExpert> experts, std::size_t blocks) {
  struct Group {
    std::size_t first, count;
  };
  std::vector<Group> groups;
  std::vector<std::size_t> firsts;  // group of each expert that interleaves
  for (const ActiveExpert& e : experts) {
    if (!interleaves_rows(table, e.count)) continue;
    firsts.push_back(groups.size());
    for (std::size_t i = 0; i < e.count; i += kTileTokens) {
      groups.push_back({e.first + i, std::min(kTileTokens, e.count - i)});
    }
  }
  if (groups.empty()) return;
  auto* tiles = memory.reserve<QuantisedTile>(groups.size() * blocks);
  workers.each(groups.size(), [&](std::size_t begin, std::size_t end, unsigned) {
    for (std::size_t g = begin; g < end; ++g) {
      table.interleave_rows(tiles + g * blocks, rows.quantised + groups[g].first, groups[g].count, blocks);
    }
  });
  auto first = firsts.begin();
  for (ActiveExpert& e : experts) {
    if (interleaves_rows(table, e.count)) e.tiles = tiles + *first++ * blocks;
  }
}

constexpr std::size_t kPiecePanels = 4;  // panels of one expert that a worker takes at a time

constexpr std::size_t count_pieces(std::size_t panels) noexcept { return (panels + kPiecePanels - 1) / kPiecePanels; }

// x[t] += weights[t, 0] * products[t, 0] + weights[t, 1] * products[t, 1] + ..., the sum first.
void add_slots(Tensor x, const float* products, const float* weights, std::size_t top_k) noexcept {
  for (std::size_t t = 0; t < x.rows; ++t) {
    float sum[kPanelRows] = {};
    for (std::size_t slot = t * top_k; slot < (t + 1) * top_k; ++slot) {
      const float* product = products + slot * kPanelRows;
      for (std::size_t c = 0; c < kPanelRows; ++c) sum[c] += weights[slot] * product[c];
    }
    float* to = row(x, t);
    for (std::size_t c = 0; c < x.cols; ++c) to[c] += sum[c];
  }
}

bool quantises_for(const ExpertWeights& experts, const Weight* SharedExpert::* weight) noexcept {
  return experts.shared && quantises_input(packed(*(*experts.shared.*weight)).format());
}

}  // namespace

void CpuBackend::do_moe_gather(const ExpertActs& out, Tensor h, const ExpertWeights& experts, const Routes& routes) {
  const std::size_t parts = experts.up == nullptr ? 2 : 1, top_k = routes.top_k;
  const std::size_t width = experts.gate->rows() / (experts.count * parts);
  const ExpertPanels gates("moe_gather", *experts.gate, experts.count, parts, width);
  const ExpertPanels ups("moe_gather", experts.up == nullptr ? *experts.gate : *experts.up, experts.count, parts,
                         width);
  if (h.rows == 0) return;
  Routing routing = sort_pairs(host(routes.experts), h.rows * top_k, experts.count);

  const MatmulTable& table = table_.matmul;
  const std::size_t pairs = routing.pairs.size(), tokens = experts.shared ? h.rows : 0;
  const bool quantises = quantises_input(gates.w.format()) || quantises_input(ups.w.format()) ||
                         quantises_for(experts, &SharedExpert::gate) || quantises_for(experts, &SharedExpert::up);
  const std::size_t blocks = h.cols / kQuantisedColumns;
  const Rows from(workers_, table, quantises ? input_.reserve<QuantisedBlock>(h.rows * blocks) : nullptr, h);
  const RowLists rows = reserve_lists(lists_, pairs + tokens, 1);
  for (std::size_t i = 0; i < pairs; ++i) {
    list_row(rows, i, from, routing.pairs[i] / top_k);
    rows.out[i] = row(out.routed, routing.pairs[i]);
  }
  for (std::size_t t = 0; t < tokens; ++t) {
    list_row(rows, pairs + t, from, t);
    rows.out[pairs + t] = row(out.shared, t);
  }
  // The shared expert first: with many tokens its pieces are the longest.
  std::vector<ActiveExpert> active = shared_rows(pairs, tokens, h.cols);
  const std::size_t shared_parts = active.size();
  active.insert(active.end(), routing.active.begin(), routing.active.end());
  if (quantises) interleave_experts(workers_, table, tiles_, rows, active, blocks);

  const auto multiply = [&](const PackedWeight& g, std::size_t g_first, const PackedWeight& u, std::size_t u_first,
                            std::size_t panels, const RowLists& mine, std::size_t piece) {
    const std::size_t end = std::min((piece + 1) * kPiecePanels, panels);
    for (std::size_t p = piece * kPiecePanels; p < end; ++p) {
      swiglu_panel(table, g, g_first + p, u, u_first + p, mine, p * kPanelRows);
    }
  };
  const std::size_t pieces = count_pieces(gates.count);
  const std::size_t shared_panels = experts.shared ? packed(*experts.shared->gate).panels() : 0;
  const std::size_t shared_pieces = count_pieces(shared_panels), before = shared_parts * shared_pieces;
  workers_.each_item(before + routing.active.size() * pieces, [&](std::size_t item, unsigned) {
    if (item < before) {
      multiply(packed(*experts.shared->gate), 0, packed(*experts.shared->up), 0, shared_panels,
               active[item / shared_pieces].rows(rows, blocks), item % shared_pieces);
      return;
    }
    const ActiveExpert& e = active[shared_parts + (item - before) / pieces];
    multiply(gates.w, gates.panel(e.expert, 0, 0), ups.w, ups.panel(e.expert, parts - 1, 0), gates.count,
             e.rows(rows, blocks), (item - before) % pieces);
  });
}

void CpuBackend::do_moe_combine(Tensor x, const ExpertActs& h, const ExpertWeights& experts, const Routes& routes) {
  const std::size_t width = experts.down->rows() / experts.count;
  const ExpertPanels downs("moe_combine", *experts.down, experts.count, 1, width);
  if (x.rows == 0) return;
  const Tensor routed = h.routed, act = experts.shared ? h.shared : Tensor{};
  Routing routing = sort_pairs(host(routes.experts), routed.rows, experts.count);

  const MatmulTable& table = table_.matmul;
  const std::size_t pairs = routed.rows, tokens = act.rows, n = pairs + tokens;
  const bool quantises = quantises_input(downs.w.format()), quantises_act = quantises_for(experts, &SharedExpert::down);
  const std::size_t blocks = pairs * (routed.cols / kQuantisedColumns);
  const std::size_t act_blocks = tokens * (act.cols / kQuantisedColumns);
  auto* quantised = input_.reserve<QuantisedBlock>(blocks + act_blocks);
  const Rows from(workers_, table, quantises ? quantised : nullptr, routed);
  const Rows from_act(workers_, table, quantises_act ? quantised + blocks : nullptr, act);
  const RowLists rows = reserve_lists(lists_, n, workers_.count());
  auto* products = product_.reserve<float>(workers_.count() * pairs * kPanelRows);
  for (std::size_t i = 0; i < pairs; ++i) list_row(rows, i, from, routing.pairs[i]);
  for (std::size_t t = 0; t < tokens; ++t) list_row(rows, pairs + t, from_act, t);
  for (std::size_t worker = 0; worker < workers_.count(); ++worker) {
    float** out = rows.out + worker * n;
    for (std::size_t i = 0; i < pairs; ++i) {
      out[i] = products + (worker * pairs + routing.pairs[i]) * kPanelRows;
    }
    for (std::size_t t = 0; t < tokens; ++t) out[pairs + t] = row(x, t);
  }
  if (quantises) interleave_experts(workers_, table, tiles_, rows, routing.active, from.blocks);
  std::vector<ActiveExpert> everyone = shared_rows(pairs, tokens, act.cols);
  if (quantises_act) interleave_experts(workers_, table, shared_tiles_, rows, everyone, from_act.blocks);

  // One panel of outputs at a time: every pair's product into the worker's own scratch, then the slots in order, then
  // the shared expert's product.
  workers_.each(downs.count, [&](std::size_t begin, std::size_t end, unsigned worker) {
    RowLists mine = rows;
    mine.out += worker * n;
    for (std::size_t p = begin; p < end; ++p) {
      for (const ActiveExpert& e : routing.active) {
        multiply_panel(table, downs.w, downs.panel(e.expert, 0, p), e.rows(mine, from.blocks), 0, false);
      }
      const std::size_t column = p * kPanelRows;
      add_slots({x.data + column, x.rows, std::min(kPanelRows, width - column), x.stride},
                products + worker * pairs * kPanelRows, host(routes.weights), routes.top_k);
      for (const ActiveExpert& e : everyone) {
        multiply_panel(table, packed(*experts.shared->down), p, e.rows(mine, from_act.blocks), column, true);
      }
    }
  });
}

}  // namespace qwen35::cpu
