// Attention on the CPU: who computes which queries against which keys. The arithmetic of a query depends on its own
// position alone: keys in splits at fixed positions, merged in order. So whether a worker takes all splits of
// a query or one of them changes no bit.
#include <algorithm>
#include <bit>
#include <cmath>

#include "devices/cpu/cpu_backend.h"
#include "devices/cpu/host.h"
#include "devices/cpu/quantised_page.h"
#include "devices/cpu/scratch_bytes.h"

namespace qwen35::cpu {
namespace {

// Partial softmaxes of one call take no more than this; beyond it a worker keeps a query to itself.
constexpr std::size_t kPartsBytes = std::size_t{64} << 20;

// Rows of heads to normalise and turn that are worth waking one more worker for.
constexpr std::size_t kRowGrain = 16;

// Multiplications that are worth waking one more worker for: some ten microseconds.
constexpr std::size_t kGrainProducts = 1 << 19;

// Of the pages that are read element by element: fp16 but for kF32.
std::size_t index(KvFormat format) { return format == KvFormat::kF32 ? kKvF32 : kKvF16; }

std::size_t ceil_div(std::size_t a, std::size_t b) { return (a + b - 1) / b; }

// A partial softmax per query: m [n], sum [n], values [n, A] in one block of floats.
struct Partial {
  float* m;
  float* sum;
  float* values;

  Partial(float* block, std::size_t queries) : m(block), sum(block + queries), values(sum + queries) {}
  static std::size_t floats(std::size_t queries, std::size_t width) { return queries * (width + 2); }
};

// Keys [first, last), read in one form.
struct KvSplit {
  std::size_t first;
  std::size_t last;
  bool is_quantised;
};

// The queries of one task: all heads of one key/value head for a few consecutive rows of one page.
struct Queries {
  const float* rows[kQueryBlock];
  std::size_t limits[kQueryBlock];
  std::size_t count = 0;
  std::size_t first_row = 0;  // of the batch
  std::size_t kv_head = 0;
  const KvSegment* segment = nullptr;

  std::size_t own_page() const { return (limits[0] - 1) / kPageTokens; }
  // The first page that a packed format reads open again; kFirstQuantisedPage when nothing is read packed.
  std::size_t first_newest_page() const {
    return std::max(own_page() + 1, kFirstQuantisedPage + kNewestPlainPages) - kNewestPlainPages;
  }
  bool has_quantised() const { return is_quantised(segment->format) && first_newest_page() > kFirstQuantisedPage; }

  // Plain: every kKvSplit keys. Packed: the first page; the packed pages, cut at every kKvSplit keys; the newest pages.
  std::size_t splits() const {
    if (!is_quantised(segment->format)) return ceil_div(limits[count - 1], kKvSplit);
    return has_quantised() ? 2 + ceil_div(first_newest_page() * kPageTokens, kKvSplit) : 1;
  }
  KvSplit split(std::size_t i) const {
    if (!is_quantised(segment->format)) return {i * kKvSplit, (i + 1) * kKvSplit, false};
    const std::size_t newest = first_newest_page() * kPageTokens, end = (own_page() + 1) * kPageTokens;
    if (!has_quantised()) return {0, end, false};
    if (i == 0) return {0, kFirstQuantisedPage * kPageTokens, false};
    if (i + 1 == splits()) return {newest, end, false};
    return {std::max((i - 1) * kKvSplit, kFirstQuantisedPage * kPageTokens), std::min(i * kKvSplit, newest), true};
  }
};

}  // namespace

// One call's work, cut into tasks.
struct AttendPlan {
  Tensor out;
  Tensor q_gate;
  AttentionShape shape;
  std::span<const KvSegment> segments;
  std::size_t group;       // query heads per key/value head
  std::size_t block_rows;  // rows per task
  std::size_t tasks = 0;
  std::size_t most_splits = 0;
  std::size_t block_queries = 0;  // of the largest task
  std::size_t products = 0;       // multiplications in all

  AttendPlan(Tensor o, Tensor q, const AttentionShape& s, std::span<const KvSegment> all)
      : out(o),
        q_gate(q),
        shape(s),
        segments(all),
        group(s.heads / s.kv_heads),
        block_rows(std::bit_floor(kQueryBlock / group)) {
    for (const KvSegment& segment : segments) {
      if (segment.count == 0) continue;
      tasks += blocks(segment) * shape.kv_heads;
      most_splits = std::max(most_splits, queries(tasks - 1).splits());
      products += 2 * segment.count * (segment.position + segment.count) * shape.heads * shape.width;
      block_queries = std::max(block_queries, std::min(block_rows, segment.count) * group);
    }
  }

  // As many as have some ten microseconds to do each.
  std::size_t most_workers() const { return products / kGrainProducts + 1; }

  // Blocks of rows lie at fixed positions, so that none reaches from one page into the next.
  std::size_t blocks(const KvSegment& s) const {
    return s.count == 0 ? 0 : ceil_div(s.position + s.count, block_rows) - s.position / block_rows;
  }

  Queries queries(std::size_t task) const {
    const KvSegment* s = segments.data();
    for (; task >= blocks(*s) * shape.kv_heads; ++s) task -= blocks(*s) * shape.kv_heads;
    Queries q;
    q.segment = s;
    q.kv_head = task % shape.kv_heads;
    const std::size_t start = (s->position / block_rows + task / shape.kv_heads) * block_rows;
    const std::size_t first = std::max(start, s->position) - s->position;
    q.first_row = s->first + first;
    for (std::size_t t = first; t < std::min(start + block_rows - s->position, s->count); ++t) {
      for (std::size_t h = 0; h < group; ++h, ++q.count) {
        q.rows[q.count] = query(s->first + t, q.kv_head * group + h);
        q.limits[q.count] = s->position + t + 1;
      }
    }
    return q;
  }

  const float* query(std::size_t row, std::size_t head) const { return cpu::row(q_gate, row) + head * 2 * shape.width; }

  float scale() const { return 1.0F / std::sqrt(static_cast<float>(shape.width)); }

  void run_split(const Table& table, const Queries& q, std::size_t number, const Partial& to,
                 std::byte* scratch) const {
    const KvSplit split = q.split(number);
    if (split.is_quantised) {
      const std::size_t first = split.first / kPageTokens, count = split.last / kPageTokens - first;
      attend_packed(table, QuantisedPage(q.segment->format, shape),
                    {.queries = q.rows,
                     .count = q.count,
                     .pages = q.segment->quantised.subspan(first, count),
                     .kv_head = q.kv_head,
                     .scale = scale(),
                     .m = to.m,
                     .sum = to.sum,
                     .values = to.values},
                    scratch);
      return;
    }
    table.attend_split[index(q.segment->format)]({.queries = q.rows,
                                                  .limits = q.limits,
                                                  .count = q.count,
                                                  .pages = q.segment->plain.data(),
                                                  .kv_head = q.kv_head,
                                                  .kv_heads = shape.kv_heads,
                                                  .width = shape.width,
                                                  .first = split.first,
                                                  .last = split.last,
                                                  .scale = scale(),
                                                  .m = to.m,
                                                  .sum = to.sum,
                                                  .values = to.values});
  }

  void merge(const Table& table, const Queries& q, std::size_t split, const Partial& total,
             const Partial& later) const {
    for (std::size_t i = 0; i < q.count; ++i) {
      if (q.limits[i] <= q.split(split).first) continue;
      table.attend_combine(total.m + i, total.sum + i, total.values + i * shape.width, later.m[i], later.sum[i],
                           later.values + i * shape.width, shape.width);
    }
  }

  void finish(const Table& table, const Queries& q, const Partial& total) const {
    for (std::size_t i = 0; i < q.count; ++i) {
      if (is_quantised(q.segment->format)) table.hadamard(total.values + i * shape.width, shape.width);  // back
      const std::size_t row = q.first_row + i / group, head = q.kv_head * group + i % group;
      table.attend_finish(cpu::row(out, row) + head * shape.width, total.values + i * shape.width, total.sum[i],
                          query(row, head) + shape.width, shape.width);
    }
  }
};

// cos and sin, [rows, 2, pairs], the same for every layer of a pass. Angles in double: at position 10^6 a float angle
// would be off by 0.03.
const float* CpuBackend::rope_table(const Rope& rope) {
  const std::span positions = pass_.step().positions;
  const std::size_t pairs = rope.pairs, rows = positions.size();
  float* table = rope_.reserve<float>(rows * 2 * pairs);
  if (rope_of_ == rope.inv_freq) return table;
  rope_of_ = rope.inv_freq;
  const double* inv_freq = host(rope.inv_freq);
  const auto fill = [&](std::size_t begin, std::size_t end, unsigned) {
    for (std::size_t t = begin; t < end; ++t) {
      float* cosine = table + t * 2 * pairs;
      for (std::uint32_t i = 0; i < rope.pairs; ++i) {
        const double angle = static_cast<double>(positions[t].along(rope.axis(i))) * inv_freq[i];
        cosine[i] = static_cast<float>(std::cos(angle) * static_cast<double>(rope.magnitude));
        cosine[pairs + i] = static_cast<float>(std::sin(angle) * static_cast<double>(rope.magnitude));
      }
    }
  };
  workers_.each(rows, fill, kRowGrain);
  return table;
}

void CpuBackend::do_norm_rope_append(Tensor q_gate, Tensor k, Tensor v, const HeadNorms& norms, float eps,
                                     const Rope& rope, const AttentionShape& shape, std::uint32_t layer) {
  const std::size_t pairs = rope.pairs, width = shape.width;
  const std::span segments = pass_.attention(shape, layer);
  const float* angles = rope_table(rope);
  const float* q_norm = host(norms.query);
  const float* k_norm = host(norms.key);
  const auto one = [&](const KvSegment& s, std::size_t row) {
    const float* cosine = angles + row * 2 * pairs;
    const std::size_t position = s.position + row - s.first;
    for (std::size_t h = 0; h < shape.heads; ++h) {
      float* query = cpu::row(q_gate, row) + h * 2 * width;
      table_.norm_rope(query, q_norm, width, eps, cosine, cosine + pairs, pairs);
      if (is_quantised(s.format)) table_.hadamard(query, width);
    }
    for (std::size_t g = 0; g < shape.kv_heads; ++g) {
      float* key = cpu::row(k, row) + g * width;
      float* value = cpu::row(v, row) + g * width;
      table_.norm_rope(key, k_norm, width, eps, cosine, cosine + pairs, pairs);
      if (is_quantised(s.format)) {
        table_.hadamard(key, width);
        table_.hadamard(value, width);
      }
      table_.append[index(s.format)](s.plain[position / kPageTokens], position % kPageTokens, g, shape.kv_heads, width,
                                     key, value);
    }
  };
  const auto rows = [&](std::size_t begin, std::size_t end, unsigned) {
    for (const KvSegment& s : segments) {
      for (std::size_t row = std::max(begin, s.first); row < std::min(end, s.first + s.count); ++row) one(s, row);
    }
  };
  workers_.each(q_gate.rows, rows, kRowGrain);
  for (const KvSegment& s : segments) {
    if (is_quantised(s.format)) quantise_pages(s, QuantisedPage(s.format, shape));
  }
}

// Quantises the pages that rows certain by now have filled since the pass before.
void CpuBackend::quantise_pages(const KvSegment& s, const QuantisedPage& page) {
  const std::size_t first = std::max(s.committed / kPageTokens, kFirstQuantisedPage);
  const std::size_t last = (s.position + s.certain) / kPageTokens;
  if (first >= last) return;
  workers_.each_item((last - first) * page.panels(), [&](std::size_t item, unsigned) {
    const std::size_t number = first + item / page.panels();
    page.pack(s.quantised[number], s.plain[number], item % page.panels());
  });
}

void CpuBackend::do_attend(Tensor out, Tensor q_gate, const AttentionShape& shape, std::uint32_t layer) {
  const AttendPlan plan(out, q_gate, shape, pass_.attention(shape, layer));
  const std::size_t floats = Partial::floats(plan.block_queries, shape.width);
  const bool few_tasks = plan.tasks < std::size_t{2} * workers_.count() && plan.most_splits > 1;
  if (workers_.count() > 1 && few_tasks && plan.tasks * plan.most_splits * floats * sizeof(float) <= kPartsBytes) {
    attend_splits(plan);
  } else {
    attend_rows(plan);
  }
}

std::size_t rope_scratch_bytes(const AttentionShape& shape, std::size_t rows) noexcept {
  return rows * shape.width * sizeof(float);  // where every dimension is rotated
}

std::size_t attend_scratch_bytes(const AttentionShape& shape, std::size_t rows, std::size_t context,
                                 unsigned workers) noexcept {
  const std::size_t part = Partial::floats(kQueryBlock, shape.width) * sizeof(float);
  const std::size_t block_rows = std::bit_floor(kQueryBlock / (shape.heads / shape.kv_heads));
  const std::size_t blocks = ceil_div(rows, block_rows) + 1;
  // As do_attend decides: splits are spread when tasks are few, and within kPartsBytes.
  const std::size_t few = std::min((2 * std::size_t{workers} - 1) / shape.kv_heads, blocks) * shape.kv_heads;
  const std::size_t splits = 2 + ceil_div(context, kKvSplit);
  const std::size_t spread = workers > 1 ? std::min(few * splits * part, kPartsBytes) : 0;
  return std::max(spread, 2 * part * workers) + workers * quantised_scratch_bytes(shape.width);
}

// A worker takes a task through all its splits. The longest tasks, at the end of a segment, go first.
void CpuBackend::attend_rows(const AttendPlan& plan) {
  const std::size_t floats = Partial::floats(kQueryBlock, plan.shape.width);
  float* scratch = attend_parts_.reserve<float>(2 * floats * workers_.count());
  const std::size_t packed_bytes = quantised_scratch_bytes(plan.shape.width);
  std::byte* packed = attend_quantised_.reserve<std::byte>(packed_bytes * workers_.count());
  const auto run_task = [&](std::size_t item, unsigned worker) {
    const Queries q = plan.queries(plan.tasks - 1 - item);
    const Partial total(scratch + 2 * worker * floats, q.count), later(scratch + (2 * worker + 1) * floats, q.count);
    plan.run_split(table_, q, 0, total, packed + worker * packed_bytes);
    for (std::size_t split = 1; split < q.splits(); ++split) {
      plan.run_split(table_, q, split, later, packed + worker * packed_bytes);
      plan.merge(table_, q, split, total, later);
    }
    plan.finish(table_, q, total);
  };
  workers_.each_item(plan.tasks, run_task, plan.most_workers());
}

// Decoding a long context: few tasks of many splits, so the splits are spread too.
void CpuBackend::attend_splits(const AttendPlan& plan) {
  const std::size_t floats = Partial::floats(plan.block_queries, plan.shape.width), splits = plan.most_splits;
  float* scratch = attend_parts_.reserve<float>(plan.tasks * splits * floats);
  const std::size_t packed_bytes = quantised_scratch_bytes(plan.shape.width);
  std::byte* packed = attend_quantised_.reserve<std::byte>(packed_bytes * workers_.count());
  const auto part = [&](std::size_t task, std::size_t split, const Queries& q) {
    return Partial(scratch + (task * splits + split) * floats, q.count);
  };
  workers_.each_item(plan.tasks * splits, [&](std::size_t item, unsigned worker) {
    const std::size_t task = item / splits, split = item % splits;
    const Queries q = plan.queries(task);
    if (split < q.splits()) plan.run_split(table_, q, split, part(task, split, q), packed + worker * packed_bytes);
  });
  workers_.each_item(plan.tasks, [&](std::size_t task, unsigned) {
    const Queries q = plan.queries(task);
    const Partial total = part(task, 0, q);
    for (std::size_t split = 1; split < q.splits(); ++split) plan.merge(table_, q, split, total, part(task, split, q));
    plan.finish(table_, q, total);
  });
}

}  // namespace qwen35::cpu
