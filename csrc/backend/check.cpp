#include "backend/check.h"

#include <algorithm>
#include <string>
#include <string_view>

#include "base/error.h"

namespace qwen35::check {
namespace {

std::string text(std::size_t number) { return std::to_string(number); }

std::string text(std::size_t rows, std::size_t cols) { return std::string("[") + text(rows) + ", " + text(cols) + "]"; }

std::string text(const Weight& w) { return text(w.rows(), w.cols()); }

[[noreturn]] void fail(const char* operation, const std::string& what) {
  throw InputError(std::string(operation) + ": " + what);
}

void expect(const char* operation, const char* argument, Tensor given, std::size_t rows, std::size_t cols) {
  if (given.rows == rows && given.cols == cols) return;
  fail(operation, std::string(argument) + " is " + text(given.rows, given.cols) + ", expected " + text(rows, cols));
}

// Every row of the batch is in the tensor.
void batch_rows(const char* operation, const char* argument, Tensor given, const Step& step, std::size_t cols) {
  expect(operation, argument, given, step.tokens.size(), cols);
}

// act [T, F].
void shared_expert(const char* operation, const SharedExpert& shared, Tensor act, std::size_t tokens,
                   std::size_t width) {
  const std::size_t inner = shared.gate->rows();
  if (act.rows == tokens && act.cols == inner && shared.up->rows() == inner && shared.down->cols() == inner &&
      shared.gate->cols() == width && shared.up->cols() == width && shared.down->rows() == width) {
    return;
  }
  fail(operation, "a shared expert of gate " + text(*shared.gate) + ", up " + text(*shared.up) + " and down " +
                      text(*shared.down) + " does not fit rows of " + text(width) + " and results of " +
                      text(act.rows, act.cols));
}

std::size_t rows_of_one(const char* operation, const Weight& w, std::size_t parts) {
  if (parts == 0 || w.rows() % parts != 0) {
    fail(operation, text(w.rows()) + " rows of weights are not " + text(parts) + " equal parts");
  }
  return w.rows() / parts;
}

}  // namespace

void layout(const char* operation, const Weight& w, const char* expected) {
  if (std::string_view(w.layout()) == expected) return;
  fail(operation, "a weight of " + text(w) + " in the layout '" + w.layout() + "', expected '" + expected +
                      "': pack it with this device");
}

void heads(const char* operation, const AttentionShape& shape, const DeviceLimits& limits) {
  if (shape.kv_heads != 0 && shape.heads % shape.kv_heads == 0 && shape.heads / shape.kv_heads <= limits.query_heads &&
      shape.width != 0 && shape.width % limits.head_unit == 0) {
    return;
  }
  fail(operation, text(shape.heads) + " heads over " + text(shape.kv_heads) + " key/value heads of width " +
                      text(shape.width) + ": expected at most " + text(limits.query_heads) +
                      " heads for each and a width that is a multiple of " + text(limits.head_unit));
}

void step(const Step& step) {
  constexpr const char* kName = "step";
  const std::size_t rows = step.tokens.size(), table = step.page_table.size();
  if (step.positions.size() != rows) {
    fail(kName, text(step.positions.size()) + " positions, expected one for each of " + text(rows) + " rows");
  }
  std::size_t next = 0;
  for (const StepSegment& s : step.segments) {
    if (s.first < next || s.first > rows || s.count > rows - s.first) {
      fail(kName, "a segment of " + text(s.count) + " rows from row " + text(s.first) + ", expected rows of " +
                      text(next) + " to " + text(rows));
    }
    next = std::size_t{s.first} + s.count;
    if (s.position > kMostTokens || s.count > kMostTokens - s.position || s.committed > s.position ||
        s.certain > s.count) {
      fail(kName, "a segment of " + text(s.count) + " rows at position " + text(s.position) + " with " +
                      text(s.committed) + " committed and " + text(s.certain) + " certain");
    }
    const std::size_t last = is_quantised(s.format) ? std::max(s.plain_pages, s.quantised_pages) : s.plain_pages;
    if (last > table || s.pages() > table - last) {
      fail(kName, "a segment of " + text(s.pages()) + " pages from entry " + text(last) + " of a page table of " +
                      text(table));
    }
  }
  for (const std::uint32_t row : step.outputs) {
    if (row >= rows) fail(kName, "output row " + text(row) + " of " + text(rows));
  }
  for (const InputRow& input : step.inputs) {
    if (input.row >= rows) fail(kName, "input row " + text(input.row) + " of " + text(rows));
  }
}

void embed(Tensor out, const Weight& table, const Step& step) {
  batch_rows("embed", "out", out, step, table.cols());
  for (const Token token : step.tokens) {
    if (token < 0 || static_cast<std::size_t>(token) >= table.rows()) {
      fail("embed", "token " + std::to_string(token) + " is outside the vocabulary of " + text(table.rows()));
    }
  }
}

void rms_norm(Tensor out, Tensor x) { expect("rms_norm", "out", out, x.rows, x.cols); }

void matmul(const char* operation, Tensor out, Tensor x, const Weight& w) {
  if (x.cols == w.cols() && out.cols >= w.rows() && out.rows == x.rows) return;
  fail(operation, text(x.rows, x.cols) + " times the transpose of " + text(w) + " does not fit an output of " +
                      text(out.rows, out.cols));
}

void gated_delta_net(Tensor out, Tensor qkv, Tensor z, Tensor a, Tensor b, const DeltaShape& shape, const Step& step,
                     const DeviceLimits& limits) {
  constexpr const char* kName = "gated_delta_net";
  if (shape.conv_width != limits.conv_width) {
    fail(kName, "linear_conv_kernel_dim is " + text(shape.conv_width) + ", expected " + text(limits.conv_width));
  }
  if (shape.value_width % limits.value_unit != 0 || shape.key_heads == 0 || shape.value_heads % shape.key_heads != 0) {
    fail(kName, text(shape.value_heads) + " value heads over " + text(shape.key_heads) + " key heads, value width " +
                    text(shape.value_width) + ": expected whole groups of heads and a width that is a multiple of " +
                    text(limits.value_unit));
  }
  const std::size_t rows = qkv.rows, width = shape.values();
  batch_rows(kName, "qkv", qkv, step, shape.channels());
  expect(kName, "out", out, rows, width);
  expect(kName, "z", z, rows, width);
  expect(kName, "a", a, rows, shape.value_heads);
  expect(kName, "b", b, rows, shape.value_heads);
}

void norm_rope_append(Tensor q_gate, Tensor k, Tensor v, const Rope& rope, const AttentionShape& shape,
                      const Step& step, const DeviceLimits& limits) {
  constexpr const char* kName = "norm_rope_append";
  heads(kName, shape, limits);
  if (2 * std::size_t{rope.pairs} > shape.width) {
    fail(kName,
         "rotary dimensions " + text(2 * std::size_t{rope.pairs}) + " exceed the head width " + text(shape.width));
  }
  const std::size_t width = shape.width;
  if (q_gate.rows != 0) batch_rows(kName, "q_gate", q_gate, step, shape.heads * 2 * width);
  batch_rows(kName, "k", k, step, shape.kv_heads * width);
  batch_rows(kName, "v", v, step, shape.kv_heads * width);
}

void attend(Tensor out, Tensor q_gate, const AttentionShape& shape, const Step& step, const DeviceLimits& limits) {
  constexpr const char* kName = "attend";
  heads(kName, shape, limits);
  const std::size_t width = std::size_t{shape.heads} * shape.width;
  batch_rows(kName, "q_gate", q_gate, step, 2 * width);
  expect(kName, "out", out, q_gate.rows, width);
}

void route(const Routes& out, Tensor logits, Tensor h, const RouterWeights& weights) {
  constexpr const char* kName = "route";
  if (out.top_k == 0 || out.top_k > logits.cols) {
    fail(kName, "num_experts_per_tok is " + text(out.top_k) + ", expected 1 to num_experts, " + text(logits.cols));
  }
  expect(kName, "logits", logits, h.rows, weights.router->rows());
  matmul(kName, logits, h, *weights.router);
  if (weights.shared_gate == nullptr) return;
  expect(kName, "the shared expert's gate", out.shared_gate, h.rows, 1);
  matmul(kName, out.shared_gate, h, *weights.shared_gate);
}

void moe_gather(const ExpertActs& out, Tensor h, const ExpertWeights& experts, const Routes& routes) {
  constexpr const char* kName = "moe_gather";
  const std::size_t top_k = routes.top_k;
  const Weight &gate = *experts.gate, *up = experts.up;
  const Tensor routed = out.routed;
  const std::size_t width = rows_of_one(kName, gate, std::size_t{experts.count} * (up == nullptr ? 2 : 1));
  if (up != nullptr && (up->rows() != gate.rows() || up->cols() != gate.cols())) {
    fail(kName, "up is " + text(*up) + ", expected the shape of gate, " + text(gate));
  }
  if (routed.rows != h.rows * top_k || routed.cols < width || h.cols != gate.cols()) {
    fail(kName, text(h.rows, h.cols) + " times " + text(top_k) + " of the experts in " + text(gate) +
                    " does not fit an output of " + text(routed.rows, routed.cols) + ", expected " +
                    text(h.rows * top_k, width));
  }
  if (!experts.shared) return;
  shared_expert(kName, *experts.shared, out.shared, h.rows, h.cols);
  if (routes.shared_gate.rows > 0) expect(kName, "the shared expert's gate", routes.shared_gate, h.rows, 1);
}

void moe_combine(Tensor x, const ExpertActs& h, const ExpertWeights& experts, std::uint32_t top_k) {
  constexpr const char* kName = "moe_combine";
  const std::size_t width = rows_of_one(kName, *experts.down, experts.count);
  expect(kName, "h", h.routed, x.rows * top_k, experts.down->cols());
  expect(kName, "x", x, x.rows, width);
  if (experts.shared) shared_expert(kName, *experts.shared, h.shared, x.rows, width);
}

void take_rows(Tensor out, Tensor x, const Step& step) {
  batch_rows("take_rows", "x", x, step, x.cols);
  expect("take_rows", "out", out, step.outputs.size(), x.cols);
}

void previous_rows(Tensor out, Tensor x, const Step& step) {
  batch_rows("previous_rows", "x", x, step, x.cols);
  batch_rows("previous_rows", "out", out, step, x.cols);
}

void kept_rows(Tensor out, const Step& step) { batch_rows("kept_rows", "out", out, step, out.cols); }

void top_k(std::size_t k, Tensor logits, const LogitEdits& edits) {
  expect("top_k", "logits", logits, 1, logits.cols);
  if (k == 0 || k > std::min(kMostTopK, logits.cols)) {
    fail("top_k",
         text(k) + " tokens of " + text(logits.cols) + ", expected 1 to " + text(std::min(kMostTopK, logits.cols)));
  }
  for (const EditedToken& token : edits.tokens) {
    if (token.id >= 0 && static_cast<std::size_t>(token.id) < logits.cols) continue;
    fail("top_k", "token " + std::to_string(token.id) + " is edited, of " + text(logits.cols) + " that there are");
  }
}

}  // namespace qwen35::check
