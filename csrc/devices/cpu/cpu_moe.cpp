// Products with the chosen experts. (token, slot) pairs are sorted by expert, so that each expert's panels stream once
// for all rows that chose it; every pair's result has its own place, and slots are added up in order. The shared expert
// is one more, whose rows follow the pairs in the lists.
#include <algorithm>
#include <span>
#include <string>

#include "base/error.h"
#include "devices/cpu/cpu_backend.h"
#include "devices/cpu/matmul.h"
#include "devices/expert_panels.h"

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

struct TileGroup {  // rows of one expert that are interleaved together
  std::size_t first;
  std::size_t count;
};

// What of a mixture's step can be known before its routes are.
struct RoutingSizes {
  std::size_t pairs;
  std::size_t tokens;  // that pass the shared expert
  std::size_t experts;

  std::size_t most_active() const noexcept {
    return std::min(pairs, experts) + (tokens + kBlockStep - 1) / kBlockStep;  // rows_per_block() is no less
  }
  // Of experts that many rows chose, each with a last group that is full in part.
  std::size_t most_expert_groups() const noexcept {
    return std::min(pairs / kLeastTileRows, pairs / kTileTokens + experts);
  }
  std::size_t most_groups() const noexcept { return most_expert_groups() + dense_tiles(tokens); }
  std::size_t bytes() const noexcept {
    return (experts + pairs) * sizeof(std::size_t) + most_active() * sizeof(ActiveExpert) +
           most_groups() * sizeof(TileGroup);
  }
};

// Which rows go to which expert. Pairs (token, slot), numbered token * top_k + slot, are sorted by expert and within
// one expert by number.
class Routing {
 public:
  Routing(Work& work, const RoutingSizes& sizes)
      : sizes_(sizes),
        counts_(reinterpret_cast<std::size_t*>(work.take<std::byte>(WorkPart::kRouting, sizes.bytes()))),
        pairs_(counts_ + sizes.experts),
        active_(reinterpret_cast<ActiveExpert*>(pairs_ + sizes.pairs)),
        groups_(reinterpret_cast<TileGroup*>(active_ + sizes.most_active())) {}

  // Throws InputError for a number that is no expert's. The shared expert's rows follow the pairs: as many at a time as
  // one of a dense product of so many columns.
  void sort(const std::int32_t* experts, std::size_t shared_cols);

  std::span<const std::size_t> pairs() const noexcept { return {pairs_, sizes_.pairs}; }
  // The shared expert's parts first.
  std::span<ActiveExpert> active() const noexcept { return {active_, shared_count_ + routed_count_}; }
  std::span<ActiveExpert> shared() const noexcept { return active().first(shared_count_); }
  std::span<ActiveExpert> routed() const noexcept { return active().subspan(shared_count_); }
  // Room for the groups of all.
  TileGroup* groups() const noexcept { return groups_; }

 private:
  RoutingSizes sizes_;
  std::size_t* counts_;
  std::size_t* pairs_;
  ActiveExpert* active_;
  TileGroup* groups_;
  std::size_t shared_count_ = 0;
  std::size_t routed_count_ = 0;
};

void Routing::sort(const std::int32_t* experts, std::size_t shared_cols) {
  const std::size_t most = rows_per_block(shared_cols);
  for (std::size_t i = 0; i < sizes_.tokens; i += most) {
    active_[shared_count_++] = {
        .expert = 0, .first = sizes_.pairs + i, .count = std::min(most, sizes_.tokens - i), .tiles = nullptr};
  }
  std::fill_n(counts_, sizes_.experts, std::size_t{0});
  for (std::size_t i = 0; i < sizes_.pairs; ++i) {
    if (experts[i] < 0 || static_cast<std::size_t>(experts[i]) >= sizes_.experts) {
      throw InputError("experts: number " + std::to_string(experts[i]) + " is outside the " +
                       std::to_string(sizes_.experts) + " experts");
    }
    ++counts_[experts[i]];
  }
  std::size_t first = 0;
  for (std::size_t e = 0; e < sizes_.experts; ++e) {
    const std::size_t count = counts_[e];
    if (count != 0) {
      active_[shared_count_ + routed_count_++] = {.expert = e, .first = first, .count = count, .tiles = nullptr};
    }
    counts_[e] = first;  // where its next pair goes
    first += count;
  }
  for (std::size_t i = 0; i < sizes_.pairs; ++i) pairs_[counts_[experts[i]]++] = i;
}

// Where `parts` matrices per expert lie in one weight: panels of part p of expert e begin at first(e, p).
struct ExpertPanels {
  ExpertPanels(const char* name, const Weight& weight, std::size_t experts, std::size_t parts, std::size_t part_rows)
      : w(packed(weight)),
        count(expert_part_panels(name, {w.rows(), w.groups(), w.group_rows(), kPanelRows}, experts, parts, part_rows)),
        parts_(parts) {}

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

// Entry i of the lists reads a row of a tensor; the caller fills in its places.
void list_row(const RowLists& lists, std::size_t i, const Rows& from, std::size_t row) noexcept {
  lists.quantised[i] = from.quantised == nullptr ? nullptr : from.quantised + row * from.blocks;
  lists.exact[i] = cpu::row(from.x, row);
}

// Joins the rows of each expert that many rows chose, in `part`.
void interleave_experts(Workers& workers, const MatmulTable& table, Work& work, WorkPart part, const RowLists& rows,
                        std::span<ActiveExpert> experts, TileGroup* groups, std::size_t blocks) {
  std::size_t count = 0;
  for (const ActiveExpert& e : experts) {
    for (std::size_t i = 0; interleaves_rows(table, e.count) && i < e.count; i += kTileTokens) {
      groups[count++] = {e.first + i, std::min(kTileTokens, e.count - i)};
    }
  }
  if (count == 0) return;
  auto* tiles = work.take<QuantisedTile>(part, count * blocks);
  workers.each(count, [&](std::size_t begin, std::size_t end, unsigned) {
    for (std::size_t g = begin; g < end; ++g) {
      table.interleave_rows(tiles + g * blocks, rows.quantised + groups[g].first, groups[g].count, blocks);
    }
  });
  for (ActiveExpert& e : experts) {
    if (!interleaves_rows(table, e.count)) continue;
    e.tiles = tiles;
    tiles += tile_groups(e.count) * blocks;
  }
}

constexpr std::size_t kPiecePanels = 4;  // panels of one expert that a worker takes at a time

constexpr std::size_t count_pieces(std::size_t panels) noexcept { return (panels + kPiecePanels - 1) / kPiecePanels; }

// Panels of outputs that a worker takes through all experts at a time. With few pairs several, so that an expert's
// panels are read as one stream, long enough for the hardware to be ahead of it, as long as that leaves a worker some
// turns; with many pairs, which compute, one.
constexpr std::size_t kFewPairs = 256;

constexpr std::size_t combined_panels(std::size_t pairs, std::size_t panels, unsigned workers) noexcept {
  return pairs > kFewPairs ? 1 : std::clamp<std::size_t>(panels / (4 * workers), 1, kPiecePanels);
}
constexpr std::size_t product_floats(std::size_t pairs, unsigned workers) noexcept {
  return workers * std::max(pairs, std::min(pairs, kFewPairs) * kPiecePanels) * kPanelRows;
}

// x[t] += weights[t, 0] * products[t, 0] + weights[t, 1] * products[t, 1] + ..., the sum first. Products are `stride`
// floats apart.
void add_slots(Tensor x, const float* products, std::size_t stride, const float* weights, std::size_t top_k) noexcept {
  for (std::size_t t = 0; t < x.rows; ++t) {
    float sum[kPiecePanels * kPanelRows] = {};
    for (std::size_t slot = t * top_k; slot < (t + 1) * top_k; ++slot) {
      const float* product = products + slot * stride;
      for (std::size_t c = 0; c < x.cols; ++c) sum[c] += weights[slot] * product[c];
    }
    float* to = row(x, t);
    for (std::size_t c = 0; c < x.cols; ++c) to[c] += sum[c];
  }
}

bool quantises_for(const ExpertWeights& experts, const Weight* SharedExpert::* weight) noexcept {
  return experts.shared && quantises_input(packed(*(*experts.shared.*weight)).format());
}

}  // namespace

void add_expert_work(WorkBytes& work, std::size_t hidden, const ExpertShape& moe, const ProductSizes& sizes) noexcept {
  const std::size_t rows = sizes.rows;
  const RoutingSizes routing{rows * moe.top_k, rows, moe.experts};
  work.raise(WorkPart::kInput, input_bytes(sizes, rows, hidden));
  work.raise(WorkPart::kInput,
             input_bytes(sizes, routing.pairs, moe.width) + input_bytes(sizes, rows, moe.shared_width));
  work.raise(WorkPart::kTiles, tile_bytes(sizes, routing.most_groups(), hidden));
  work.raise(WorkPart::kTiles, tile_bytes(sizes, routing.most_expert_groups(), moe.width));
  work.raise(WorkPart::kSharedTiles, tile_bytes(sizes, dense_tiles(rows), moe.shared_width));
  work.raise(WorkPart::kProduct, product_floats(routing.pairs, sizes.workers) * sizeof(float));
  work.raise(WorkPart::kLists, list_bytes(routing.pairs + rows, sizes.workers));
  work.raise(WorkPart::kRouting, routing.bytes());
}

void CpuBackend::do_moe_gather(const ExpertActs& out, Tensor h, const ExpertWeights& experts, const Routes& routes) {
  const std::size_t parts = experts.up == nullptr ? 2 : 1, top_k = routes.top_k;
  const std::size_t width = experts.gate->rows() / (experts.count * parts);
  const ExpertPanels gates("moe_gather", *experts.gate, experts.count, parts, width);
  const ExpertPanels ups("moe_gather", experts.up == nullptr ? *experts.gate : *experts.up, experts.count, parts,
                         width);
  if (h.rows == 0) return;
  const std::size_t pairs = h.rows * top_k, tokens = experts.shared ? h.rows : 0;
  Routing routing(work_, {pairs, tokens, experts.count});
  routing.sort(host(routes.experts), h.cols);

  const MatmulTable& table = table_.matmul;
  const bool quantises = quantises_input(gates.w.format()) || quantises_input(ups.w.format()) ||
                         quantises_for(experts, &SharedExpert::gate) || quantises_for(experts, &SharedExpert::up);
  const std::size_t blocks = h.cols / kQuantisedColumns;
  const Rows from(workers_, table, quantises ? work_.take<QuantisedBlock>(WorkPart::kInput, h.rows * blocks) : nullptr,
                  h);
  const RowLists rows = take_lists(work_, pairs + tokens, 1);
  for (std::size_t i = 0; i < pairs; ++i) {
    list_row(rows, i, from, routing.pairs()[i] / top_k);
    rows.out[i] = row(out.routed, routing.pairs()[i]);
  }
  for (std::size_t t = 0; t < tokens; ++t) {
    list_row(rows, pairs + t, from, t);
    rows.out[pairs + t] = row(out.shared, t);
  }
  // The shared expert first: with many tokens its pieces are the longest.
  const std::span active = routing.active();
  const std::size_t shared_parts = routing.shared().size();
  if (quantises) {
    interleave_experts(workers_, table, work_, WorkPart::kTiles, rows, active, routing.groups(), blocks);
  }

  const auto multiply = [&](const PackedWeight& g, std::size_t g_first, const PackedWeight& u, std::size_t u_first,
                            std::size_t panels, const RowLists& mine, std::size_t piece) {
    const std::size_t first = piece * kPiecePanels, count = std::min(kPiecePanels, panels - first);
    swiglu_panels(table, {g, g_first + first, u, u_first + first, count}, mine, first * kPanelRows);
  };
  const std::size_t pieces = count_pieces(gates.count);
  const std::size_t shared_panels = experts.shared ? packed(*experts.shared->gate).panels() : 0;
  const std::size_t shared_pieces = count_pieces(shared_panels), before = shared_parts * shared_pieces;
  workers_.each_item(before + routing.routed().size() * pieces, [&](std::size_t item, unsigned) {
    if (item < before) {
      multiply(packed(*experts.shared->gate), 0, packed(*experts.shared->up), 0, shared_panels,
               active[item / shared_pieces].rows(rows, blocks), item % shared_pieces);
      return;
    }
    const ActiveExpert& e = active[shared_parts + (item - before) / pieces];
    multiply(gates.w, gates.panel(e.expert, 0, 0), ups.w, ups.panel(e.expert, parts - 1, 0), gates.count,
             e.rows(rows, blocks), (item - before) % pieces);
  });
  for (std::size_t t = 0; experts.shared && t < routes.shared_gate.rows; ++t) {
    table_.sigmoid_gate(row(out.shared, t), *row(routes.shared_gate, t), out.shared.cols);
  }
}

void CpuBackend::do_moe_combine(Tensor x, const ExpertActs& h, const ExpertWeights& experts, const Routes& routes) {
  const std::size_t width = experts.down->rows() / experts.count;
  const ExpertPanels downs("moe_combine", *experts.down, experts.count, 1, width);
  if (x.rows == 0) return;
  const Tensor routed = h.routed, act = experts.shared ? h.shared : Tensor{};
  const std::size_t pairs = routed.rows, tokens = act.rows, n = pairs + tokens;
  Routing routing(work_, {pairs, tokens, experts.count});
  routing.sort(host(routes.experts), act.cols);

  const MatmulTable& table = table_.matmul;
  const bool quantises = quantises_input(downs.w.format()), quantises_act = quantises_for(experts, &SharedExpert::down);
  const std::size_t blocks = pairs * (routed.cols / kQuantisedColumns);
  const std::size_t act_blocks = tokens * (act.cols / kQuantisedColumns);
  const std::size_t wanted = quantises || quantises_act ? blocks + act_blocks : 0;
  auto* quantised = work_.take<QuantisedBlock>(WorkPart::kInput, wanted);
  const Rows from(workers_, table, quantises ? quantised : nullptr, routed);
  const Rows from_act(workers_, table, quantises_act ? quantised + blocks : nullptr, act);
  const RowLists rows = take_lists(work_, n, workers_.count());
  const std::size_t together = combined_panels(pairs, downs.count, workers_.count()), stride = together * kPanelRows;
  auto* products = work_.take<float>(WorkPart::kProduct, product_floats(pairs, workers_.count()));
  for (std::size_t i = 0; i < pairs; ++i) list_row(rows, i, from, routing.pairs()[i]);
  for (std::size_t t = 0; t < tokens; ++t) list_row(rows, pairs + t, from_act, t);
  for (std::size_t worker = 0; worker < workers_.count(); ++worker) {
    float** out = rows.out + worker * n;
    for (std::size_t i = 0; i < pairs; ++i) {
      out[i] = products + (worker * pairs + routing.pairs()[i]) * stride;
    }
    for (std::size_t t = 0; t < tokens; ++t) out[pairs + t] = row(x, t);
  }
  if (quantises) {
    interleave_experts(workers_, table, work_, WorkPart::kTiles, rows, routing.routed(), routing.groups(), from.blocks);
  }
  if (quantises_act) {
    interleave_experts(workers_, table, work_, WorkPart::kSharedTiles, rows, routing.shared(), routing.groups(),
                       from_act.blocks);
  }

  // Every pair's product with a few panels of outputs into the worker's own scratch, then the slots in order, then the
  // shared expert's product.
  const auto combine = [&](std::size_t first, std::size_t end, const RowLists& mine, const float* scratch) {
    for (const ActiveExpert& e : routing.routed()) {
      for (std::size_t p = first; p < end; ++p) {
        multiply_panel(table, downs.w, downs.panel(e.expert, 0, p), e.rows(mine, from.blocks), (p - first) * kPanelRows,
                       false);
      }
    }
    const std::size_t column = first * kPanelRows;
    add_slots({x.data + column, x.rows, std::min(stride, width - column), x.stride}, scratch, stride,
              host(routes.weights), routes.top_k);
    for (const ActiveExpert& e : routing.shared()) {
      for (std::size_t p = first; p < end; ++p) {
        multiply_panel(table, packed(*experts.shared->down), p, e.rows(mine, from_act.blocks), p * kPanelRows, true);
      }
    }
  };
  workers_.each((downs.count + together - 1) / together, [&](std::size_t begin, std::size_t end, unsigned worker) {
    RowLists mine = rows;
    mine.out += worker * n;
    for (std::size_t i = begin; i < end; ++i) {
      combine(i * together, std::min((i + 1) * together, downs.count), mine, products + worker * pairs * stride);
    }
  });
}

}  // namespace qwen35::cpu
