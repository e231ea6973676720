#include "devices/fake/fake_backend.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/error.h"

namespace qwen35::fake {
namespace {

constexpr std::size_t kCarried = 2;  // columns that name a row: its token, its position

template <class T>
T* host(DevicePtr<T> address) noexcept {
  return reinterpret_cast<T*>(address.address());
}

float* row(Tensor x, std::size_t i) noexcept { return host(x.data) + i * x.stride; }

// A row named as another, and zeros behind its name.
void carry(float* to, std::size_t to_cols, const float* from, std::size_t from_cols) noexcept {
  float name[kCarried] = {};
  std::copy_n(from, std::min(kCarried, from_cols), name);
  std::fill_n(to, to_cols, 0.0F);
  std::copy_n(name, std::min(kCarried, to_cols), to);
}

void carry(Tensor to, Tensor from) noexcept {
  for (std::size_t t = 0; t < to.rows; ++t) carry(row(to, t), to.cols, row(from, t), from.cols);
}

class FakeWeight final : public Weight {
 public:
  FakeWeight(std::size_t rows, std::size_t cols) : rows_(rows), cols_(cols) {}
  std::size_t rows() const noexcept override { return rows_; }
  std::size_t cols() const noexcept override { return cols_; }
  std::size_t bytes() const noexcept override { return 0; }

 private:
  std::size_t rows_, cols_;
};

class FakeBuffer final : public Buffer {
 public:
  FakeBuffer(std::shared_ptr<Record> record, std::size_t bytes)
      : record_(std::move(record)), lines_((bytes + sizeof(Line) - 1) / sizeof(Line)), bytes_(bytes) {
    ++record_->buffers;
  }
  ~FakeBuffer() override { --record_->buffers; }
  FakeBuffer(const FakeBuffer&) = delete;
  FakeBuffer& operator=(const FakeBuffer&) = delete;

  DevicePtr<std::byte> data() noexcept override {
    return DevicePtr<std::byte>(reinterpret_cast<std::uintptr_t>(lines_.data()));
  }
  std::size_t bytes() const noexcept override { return bytes_; }

 private:
  struct alignas(64) Line {
    std::byte bytes[64] = {};
  };
  std::shared_ptr<Record> record_;
  std::vector<Line> lines_;
  std::size_t bytes_;
};

}  // namespace

std::unique_ptr<Weight> FakeBackend::pack(const MatrixView& source, std::size_t, const Consumed&) {
  record_->allocate(source.bytes());
  return std::make_unique<FakeWeight>(source.rows, source.cols);
}

std::unique_ptr<Weight> FakeBackend::view(const Weight& w, std::size_t, std::size_t rows) const {
  return std::make_unique<FakeWeight>(rows, w.cols());
}

std::unique_ptr<Buffer> FakeBackend::allocate(std::size_t bytes) {
  record_->allocate(bytes);
  return std::make_unique<FakeBuffer>(record_, bytes);
}

void FakeBackend::copy(DevicePtr<std::byte> to, DevicePtr<const std::byte> from, std::size_t bytes) {
  std::copy_n(host(from), bytes, host(to));
}
void FakeBackend::upload(DevicePtr<std::byte> to, const std::byte* from, std::size_t bytes) {
  std::copy_n(from, bytes, host(to));
}
void FakeBackend::download(std::byte* to, DevicePtr<const std::byte> from, std::size_t bytes) {
  std::copy_n(host(from), bytes, to);
}

void FakeBackend::do_reserve(const ModelShape&, const Step& step) {
  reserved_rows_ = 0;
  record_->allocate(step.tokens.size());
  reserved_rows_ = step.tokens.size();
}

void FakeBackend::do_run(const Step& step, const std::function<void()>& pass) {
  if (reserved_rows_ != step.tokens.size()) throw Error("a pass that nothing was reserved for");
  step_ = step;
  record_->operate({"run"});
  pass();
}

void FakeBackend::do_embed(Tensor out, const Weight&) {
  record_->operate({"embed"});
  for (std::size_t t = 0; t < out.rows; ++t) {
    const float name[kCarried] = {static_cast<float>(step_.tokens[t]), static_cast<float>(step_.positions[t].t)};
    carry(row(out, t), out.cols, name, kCarried);
  }
  for (const InputRow& input : step_.inputs) carry(row(out, input.row), out.cols, host(input.values), kCarried);
}

void FakeBackend::do_rms_norm(Tensor out, Tensor x, DevicePtr<const float>, float) {
  record_->operate({"rms_norm"});
  carry(out, x);
}

void FakeBackend::do_matmul(Tensor x, std::span<const Projection> projections) {
  record_->operate({"matmul"});
  for (const Projection& p : projections) carry(p.out, x);
}

void FakeBackend::do_matmul_add(Tensor, Tensor, const Weight&) { record_->operate({"matmul_add"}); }

void FakeBackend::do_swiglu(Tensor out, Tensor h, const Weight&, const Weight&) {
  record_->operate({"swiglu"});
  carry(out, h);
}

// The tokens that the state has taken up with this segment's. Rows from `position` on that an earlier pass left
// uncertain are gone.
std::vector<Token> FakeBackend::advance(const StepSegment& s, std::uint32_t layer) {
  const std::span<std::uint32_t> state = memory_.slot(s.state).layer(layer);
  std::uint32_t &committed = state[0], &size = state[1];
  if (committed != s.committed || size < s.position || s.position < committed) {
    throw Error("the state holds " + std::to_string(size) + " tokens, " + std::to_string(committed) +
                " of them for good; the step says " + std::to_string(s.position) + " and " +
                std::to_string(s.committed));
  }
  if (s.end() > kMostHistory)
    throw Error("the fake device keeps no more than " + std::to_string(kMostHistory) + " tokens");
  const std::span<std::uint32_t> tokens = state.subspan(2);
  for (std::uint32_t i = 0; i < s.count; ++i) {
    tokens[s.position + i] = static_cast<std::uint32_t>(step_.tokens[s.first + i]);
  }
  size = s.end();
  committed = s.position + s.certain;
  return {tokens.begin(), tokens.begin() + size};
}

void FakeBackend::do_gated_delta_net(Tensor out, Tensor qkv, Tensor, Tensor, Tensor, const DeltaParameters&,
                                     const DeltaShape&, float, std::uint32_t layer) {
  Event event{"gated_delta_net", layer};
  for (const StepSegment& s : step_.segments) event.histories.push_back(advance(s, layer));
  record_->operate(std::move(event));
  carry(out, qkv);
}

// Tokens into their pages; then the quantised form of the pages that are full of certain rows.
void FakeBackend::append(const StepSegment& s, std::uint32_t layer) {
  const auto plain = [&](std::size_t page) -> FakePage& {
    return memory_.page_of_pass(step_.page_table[s.plain_pages + page]);
  };
  for (std::uint32_t i = 0; i < s.count; ++i) {
    const std::size_t at = s.position + i;
    plain(at / kPageTokens).at(layer, at % kPageTokens) = step_.tokens[s.first + i];
  }
  if (!is_quantised(s.format)) return;
  const std::size_t full = (std::size_t{s.position} + s.certain) / kPageTokens;
  for (std::size_t page = std::max<std::size_t>(1, s.committed / kPageTokens); page < full; ++page) {
    FakePage& quantised = memory_.page_of_pass(step_.page_table[s.quantised_pages + page]);
    for (std::size_t i = 0; i < kPageTokens; ++i) quantised.at(layer, i) = plain(page).at(layer, i);
  }
}

void FakeBackend::do_norm_rope_append(Tensor, Tensor, Tensor, const HeadNorms&, float, const Rope&,
                                      const AttentionShape&, std::uint32_t layer) {
  record_->operate({"norm_rope_append", layer});
  for (const StepSegment& s : step_.segments) append(s, layer);
}

// What a row of the segment reads of the pages.
std::vector<Token> FakeBackend::look_back(const StepSegment& s, std::uint32_t row, std::uint32_t layer) {
  const std::size_t position = s.position + row, own = position / kPageTokens;
  std::vector<Token> tokens;
  for (std::size_t at = 0; at <= position; ++at) {
    const std::size_t page = at / kPageTokens;
    const bool quantised = is_quantised(s.format) && reads_quantised(page, own);
    const PageId id = step_.page_table[(quantised ? s.quantised_pages : s.plain_pages) + page];
    tokens.push_back(memory_.page_of_pass(id).at(layer, at % kPageTokens));
  }
  return tokens;
}

void FakeBackend::do_attend(Tensor out, Tensor q_gate, const AttentionShape&, std::uint32_t layer) {
  Event event{"attend", layer};
  for (const StepSegment& s : step_.segments) {
    event.histories.push_back(s.count == 0 ? std::vector<Token>{} : look_back(s, s.count - 1, layer));
    const std::vector<Token>& last = event.histories.back();
    for (std::uint32_t i = 0; i < s.count; ++i) {
      const std::vector<Token> seen = look_back(s, i, layer);
      if (!std::equal(seen.begin(), seen.end(), last.begin())) {
        throw Error("row " + std::to_string(s.first + i) + " sees other tokens than the last one of its segment");
      }
    }
  }
  record_->operate(std::move(event));
  carry(out, q_gate);
}

void FakeBackend::do_route(const Routes&, Tensor, Tensor, const RouterWeights&) { record_->operate({"route"}); }

void FakeBackend::do_moe_gather(const ExpertActs&, Tensor, const ExpertWeights&, const Routes&) {
  record_->operate({"moe_gather"});
}

void FakeBackend::do_moe_combine(Tensor, const ExpertActs&, const ExpertWeights&, const Routes&) {
  record_->operate({"moe_combine"});
}

void FakeBackend::do_take_rows(Tensor out, Tensor x) {
  record_->operate({"take_rows"});
  for (std::size_t i = 0; i < out.rows; ++i) carry(row(out, i), out.cols, row(x, step_.outputs[i]), x.cols);
}

// The histories are what the rows of each segment get.
void FakeBackend::do_previous_rows(Tensor out, Tensor x) {
  Event event{"previous_rows"};
  for (const StepSegment& s : step_.segments) {
    FakeState& state = memory_.slot(s.state);
    std::vector<Token>& seen = event.histories.emplace_back();
    for (std::uint32_t i = 0; i < s.count; ++i) {
      float before[kCarried] = {};
      if (i > 0) {
        std::copy_n(row(x, s.first + i - 1), kCarried, before);
      } else if (s.position > 0) {
        std::ranges::copy(state.hidden(s.position - 1), before);
        if (before[1] != static_cast<float>(s.position - 1)) {
          throw Error("the hidden row kept is of position " + std::to_string(before[1]) + ", expected that before " +
                      std::to_string(s.position));
        }
      }
      carry(row(out, s.first + i), out.cols, before, kCarried);
      seen.push_back(static_cast<Token>(before[0]));
    }
    for (std::size_t i = s.count - std::min<std::size_t>(s.count, state.kept); i < s.count; ++i) {
      const auto kept = state.hidden(s.position + i);
      for (std::size_t c = 0; c < kCarried; ++c) kept[c] = static_cast<std::uint32_t>(row(x, s.first + i)[c]);
    }
  }
  record_->operate(std::move(event));
}

void FakeBackend::do_kept_rows(Tensor out) {
  Event event{"kept_rows"};
  for (const StepSegment& s : step_.segments) {
    FakeState& state = memory_.slot(s.state);
    std::vector<Token>& seen = event.histories.emplace_back();
    for (std::uint32_t i = 0; i < s.count; ++i) {
      float kept[kCarried] = {};
      std::ranges::copy(state.hidden(s.position + i), kept);
      if (kept[1] != static_cast<float>(s.position + i)) {
        throw Error("the hidden row kept is of position " + std::to_string(kept[1]) + ", expected " +
                    std::to_string(s.position + i));
      }
      carry(row(out, s.first + i), out.cols, kept, kCarried);
      seen.push_back(static_cast<Token>(kept[0]));
    }
  }
  record_->operate(std::move(event));
}

std::size_t FakeBackend::do_top_k(std::span<Candidate> out, Tensor logits, const LogitEdits& edits, double* log_sum) {
  record_->operate({"top_k"});
  const std::span<float> given{row(logits, 0), logits.cols};
  if (log_sum != nullptr) *log_sum = log_sum_exp(given);
  const auto best = top_k_.select(given, out.size(), edits);
  std::ranges::copy(best, out.begin());
  return best.size();
}

}  // namespace qwen35::fake
