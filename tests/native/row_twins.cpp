// The kernels over rows and heads at ragged shapes: norms, convolution, delta rule, attention, routing.
#include "twins.h"

namespace qwen35::twins {
namespace {

using cpu::Table;
using Floats = std::vector<float>;

// body(table, results) for both tables, from the same start; the results are compared.
template <class Body>
void both(Comparison& c, const char* kernel, const Floats& start, Body&& body) {
  Floats got = start, expected = start;
  body(c.ours, got.data());
  body(c.twin, expected.data());
  c.same(kernel, got, expected);
}

void compare_norms(Comparison& c, Random& random) {
  for (std::size_t n = 1; n < 150; ++n) {
    const float scale = random.uniform(0.1f, 30.0f);
    const Floats x = random.floats(n, scale), w = random.floats(n), z = random.floats(n, 20.0f);
    const Floats turns = random.floats(n);
    both(c, "rms_norm", x, [&](const Table& t, float* y) { t.rms_norm(y, x.data(), w.data(), n, 1e-6f); });
    both(c, "l2_norm", x, [&](const Table& t, float* y) { t.l2_norm(y, x.data(), n, 0.1f, 1e-6f); });
    const Floats others = random.floats(3 * n);
    both(c, "delta_dots", Floats(3), [&](const Table& t, float* y) { t.delta_dots(y, x.data(), others.data(), 3, n); });
    both(c, "sigmoid_gate", x, [&](const Table& t, float* y) { t.sigmoid_gate(y, z[0], n); });
    both(c, "norm_rope", x,
         [&](const Table& t, float* y) { t.norm_rope(y, w.data(), n, 1e-6f, turns.data(), z.data(), n / 2 - n / 8); });
    const Floats heads = random.floats(5 * n), gates = random.floats(5 * n + 5, 100.0f);
    both(c, "gated_rms_norm", Floats(5 * n + 10), [&](const Table& t, float* y) {
      t.gated_rms_norm({y, heads.data(), gates.data(), w.data(), 5, n, n + 2, n + 1, 1e-6f});
    });
  }
}

void compare_conv(Comparison& c, Random& random) {
  for (std::size_t round = 0; round < 60; ++round) {
    const std::size_t channels = random.between(1, 150), rows = random.between(1, 9), stride = channels + 3;
    const std::size_t count = random.between(1, channels);
    const Floats kernel = random.floats(count * cpu::kConvTaps, 2.0f), x = random.floats(rows * stride, 3.0f);
    const std::size_t window = rows * (count + 1);  // the window follows the results
    const std::size_t certain = random.between(0, rows), accepted = random.between(0, 9);
    both(c, "conv_silu", random.floats(window + 12 * channels, 3.0f), [&](const Table& t, float* y) {
      t.conv_silu({.x = x.data(),
                   .out = y,
                   .rows = rows,
                   .stride = stride,
                   .out_stride = count + 1,
                   .window = y + window,
                   .kernel = kernel.data(),
                   .channels = channels,
                   .count = count,
                   .accepted = accepted,
                   .certain = certain});
    });
  }
}

void compare_delta(Comparison& c, Random& random) {
  for (std::size_t count = 1; count < 40; ++count) {
    const float ssm_a = random.uniform(-3.0f, 0.0f), bias = random.uniform(-1.0f, 1.0f);
    both(c, "delta_gates", random.floats(2 * count, 30.0f),
         [&](const Table& t, float* y) { t.delta_gates(y, y + count, ssm_a, bias, count); });
  }
  for (std::size_t rows = 1; rows < 14; ++rows) {
    for (const std::size_t width : {std::size_t{4}, std::size_t{20}, std::size_t{128}}) {
      const Floats query = random.floats(rows * width), key = random.floats(rows * width, 0.3f);
      const Floats value = random.floats(rows * 37), numbers = random.floats(rows * sizeof(cpu::DeltaStep) / 4);
      std::vector<cpu::DeltaStep> steps(rows);
      std::memcpy(steps.data(), numbers.data(), rows * sizeof(cpu::DeltaStep));
      const std::size_t state = width * cpu::kValueTile;  // then the scratch, what waits, the outputs
      const std::size_t deltas = (rows + cpu::kDeltaSteps) * cpu::kValueTile;
      const std::size_t first = random.between(0, rows - 1), certain = random.between(first, rows);
      both(c, "gated_delta_rule", random.floats(2 * state + deltas + rows * 37), [&](const Table& t, float* x) {
        t.gated_delta_rule({.state = x,
                            .scratch = x + state,
                            .deltas = x + 2 * state,
                            .query = query.data(),
                            .key = key.data(),
                            .step = steps.data(),
                            .value = value.data(),
                            .out = x + 2 * state + deltas,
                            .first = first,
                            .certain = certain,
                            .rows = rows,
                            .width = width,
                            .value_stride = 37});
      });
    }
  }
}

// Two pages of two heads, filled by the kernel; then spans that begin and end where they like.
void compare_attention(Comparison& c, Random& random, std::size_t format, std::size_t width) {
  constexpr std::size_t kHeads = 2, kPages = 2, kSlots = kPages * cpu::kPageSlots;
  const std::size_t page_bytes = 2 * kHeads * cpu::kPageSlots * width * (format == cpu::kKvF32 ? 4 : 2);
  std::vector<std::byte> got(kPages * page_bytes), expected(kPages * page_bytes);
  for (std::size_t slot = 0; slot < kSlots; ++slot) {
    const Floats key = random.floats(width), value = random.floats(width);
    const std::size_t page = slot / cpu::kPageSlots * page_bytes, at = slot % cpu::kPageSlots;
    for (std::size_t head = 0; head < kHeads; ++head) {
      c.ours.append[format](got.data() + page, at, head, kHeads, width, key.data(), value.data());
      c.twin.append[format](expected.data() + page, at, head, kHeads, width, key.data(), value.data());
    }
  }
  c.same_bytes("append", got, expected);
  const std::byte* const pages[kPages] = {expected.data(), expected.data() + page_bytes};
  for (std::size_t count = 1; count <= 9; ++count) {
    std::vector<Floats> queries;
    std::vector<const float*> query_rows;
    std::vector<std::size_t> limits;
    for (std::size_t i = 0; i < count; ++i) {
      queries.push_back(random.floats(width, 3.0f));
      limits.push_back(random.between(0, 1) == 0 ? kSlots - 3 : random.between(1, kSlots));
    }
    for (const Floats& query : queries) query_rows.push_back(query.data());
    const std::size_t first = random.between(0, 3) * cpu::kKeyTile;
    both(c, "attend_split", Floats(count * (2 + width)), [&](const Table& t, float* x) {
      t.attend_split[format]({.queries = query_rows.data(),
                              .limits = limits.data(),
                              .count = count,
                              .pages = pages,
                              .kv_head = count % kHeads,
                              .kv_heads = kHeads,
                              .width = width,
                              .first = first,
                              .last = kSlots,
                              .scale = 0.3f,
                              .m = x,
                              .sum = x + count,
                              .values = x + 2 * count});
    });
  }
}

void compare_softmax_parts(Comparison& c, Random& random) {
  for (std::size_t width = 16; width <= 256; width += 16) {
    const Floats later = random.floats(width), gate = random.floats(width, 30.0f);
    Floats start = random.floats(2 + width, 5.0f);  // the largest score, the sum, the values
    start[1] = 2.5f;
    both(c, "attend_combine", start,
         [&](const Table& t, float* x) { t.attend_combine(x, x + 1, x + 2, 1.25f, 3.5f, later.data(), width); });
    both(c, "softmax_step", start,
         [&](const Table& t, float* x) { x[0] = t.softmax_step(x + 2, width, 0.7f, x, x + 1); });
    both(c, "scale_row", later, [&](const Table& t, float* x) { t.scale_row(x, 0.3f, width); });
    both(c, "hadamard", later, [&](const Table& t, float* x) { t.hadamard(x, width); });
    both(c, "attend_finish", Floats(width),
         [&](const Table& t, float* x) { t.attend_finish(x, later.data(), 1.75f, gate.data(), width); });
  }
}

void compare_route(Comparison& c, Random& random) {
  for (std::size_t count = 1; count < 300; count += 7) {
    const Floats logits = random.floats(count, 8.0f);
    const std::size_t top_k = random.between(1, count < 10 ? count : 10);
    std::vector<std::int32_t> got(top_k), expected(top_k);
    Floats got_weights(top_k), weights(top_k);
    c.ours.route(got.data(), got_weights.data(), logits.data(), count, top_k);
    c.twin.route(expected.data(), weights.data(), logits.data(), count, top_k);
    c.same_bytes("route", got, expected);
    c.same("route", got_weights, weights);
  }
}

}  // namespace

void compare_rows(Comparison& c) {
  Random random(2);
  compare_norms(c, random);
  compare_conv(c, random);
  compare_delta(c, random);
  for (const std::size_t width : {std::size_t{16}, std::size_t{48}, std::size_t{64}, std::size_t{256}}) {
    compare_attention(c, random, cpu::kKvF32, width);
    compare_attention(c, random, cpu::kKvF16, width);
  }
  compare_softmax_parts(c, random);
  compare_route(c, random);
}

}  // namespace qwen35::twins
