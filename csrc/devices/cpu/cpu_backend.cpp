#include "devices/cpu/cpu_backend.h"

#include <algorithm>
#include <cstring>

#include "devices/cpu/host.h"
#include "devices/cpu/step_work.h"

namespace qwen35::cpu {
namespace {

// Elements of a row operation that are worth waking one more worker for: some ten microseconds.
constexpr std::size_t kGrain = 1 << 16;

class CpuBuffer final : public Buffer {
 public:
  CpuBuffer(std::shared_ptr<std::byte> memory, std::size_t bytes) : data_(std::move(memory)), bytes_(bytes) {
    std::fill_n(data_.get(), bytes, std::byte{0});
  }

  DevicePtr<std::byte> data() noexcept override { return device(data_.get()); }
  std::size_t bytes() const noexcept override { return bytes_; }

 private:
  std::shared_ptr<std::byte> data_;
  std::size_t bytes_;
};

std::size_t rows_per_worker(std::size_t cols) {
  return std::max<std::size_t>(1, kGrain / std::max<std::size_t>(1, cols));
}

}  // namespace

static_assert(kPageSlots == kPageTokens && kKvSplit % kPageTokens == 0 && kPageTokens % kKeyTile == 0);

CpuBackend::CpuBackend(Isa isa, unsigned threads)
    : table_(kernels(isa)), name_(std::string("cpu-") + isa_name(isa)), workers_(threads) {}

std::unique_ptr<Buffer> CpuBackend::allocate(std::size_t bytes) {
  return std::make_unique<CpuBuffer>(memory_.take(bytes), bytes);
}

std::unique_ptr<KvPool> CpuBackend::kv_pool(const KvSpec& spec) {
  return std::make_unique<CpuKvPool>(spec, pages_, memory_);
}

std::unique_ptr<StatePool> CpuBackend::state_pool(const StateSpec& spec) {
  return std::make_unique<CpuStatePool>(spec, slots_, memory_);
}

void CpuBackend::copy(DevicePtr<std::byte> to, DevicePtr<const std::byte> from, std::size_t bytes) {
  std::copy_n(host(from), bytes, host(to));
}
void CpuBackend::upload(DevicePtr<std::byte> to, const std::byte* from, std::size_t bytes) {
  std::copy_n(from, bytes, host(to));
}
void CpuBackend::download(std::byte* to, DevicePtr<const std::byte> from, std::size_t bytes) {
  std::copy_n(host(from), bytes, to);
}

void CpuBackend::do_reserve(const ModelShape& model, const Step& step) {
  const std::size_t rows = step.tokens.size();
  const unsigned workers = workers_.count();
  const ProductSizes sizes{rows, workers, quantises_, table_.matmul.interleave_rows != nullptr};
  WorkBytes bytes;
  add_dense_work(bytes, model, sizes);
  if (model.moe) add_expert_work(bytes, model.hidden, *model.moe, sizes);
  add_delta_work(bytes, model.delta, workers);
  add_rope_work(bytes, model.attention, rows);
  add_attend_work(bytes, model.attention, step.segments, workers);
  work_.reserve(bytes);
  pass_.reserve(step);
  top_k_.reserve(model.vocabulary);
}

void CpuBackend::do_run(const Step& step, const std::function<void()>& pass) {
  const Work::Fixed fixed(work_);
  pass_.begin(step, pages_, slots_);
  rope_of_ = nullptr;
  pass();
}

void CpuBackend::do_rms_norm(Tensor out, Tensor x, DevicePtr<const float> weight, float eps) {
  const auto rows = [&](std::size_t begin, std::size_t end, unsigned) {
    for (std::size_t t = begin; t < end; ++t) {
      table_.rms_norm(row(out, t), row(x, t), host(weight), x.cols, eps);
    }
  };
  workers_.each(x.rows, rows, rows_per_worker(x.cols));
}

void CpuBackend::do_route(const Routes& out, Tensor logits, Tensor h, const RouterWeights& weights) {
  const Projection projections[] = {{logits, weights.router}, {out.shared_gate, weights.shared_gate}};
  multiply(h, std::span(projections, weights.shared_gate == nullptr ? 1 : 2), false);
  const std::size_t top_k = out.top_k;
  const auto rows = [&](std::size_t begin, std::size_t end, unsigned) {
    for (std::size_t t = begin; t < end; ++t) {
      table_.route(host(out.experts) + t * top_k, host(out.weights) + t * top_k, row(logits, t), logits.cols,
                   out.top_k);
    }
  };
  workers_.each(logits.rows, rows, rows_per_worker(16 * logits.cols));
}

void CpuBackend::do_take_rows(Tensor out, Tensor x) {
  const auto outputs = pass_.step().outputs;
  for (std::size_t i = 0; i < outputs.size(); ++i) std::memcpy(row(out, i), row(x, outputs[i]), x.cols * sizeof(float));
}

void CpuBackend::do_previous_rows(Tensor out, Tensor x) {
  const std::size_t bytes = x.cols * sizeof(float);
  for (const HiddenSegment& s : pass_.hidden(x.cols)) {
    if (s.count == 0) continue;
    const auto kept = [&](std::size_t position) { return s.rows + position % s.kept * x.cols; };
    if (s.position == 0) {
      std::memset(row(out, s.first), 0, bytes);
    } else {
      std::memcpy(row(out, s.first), kept(s.position - 1), bytes);
    }
    for (std::size_t i = 1; i < s.count; ++i) std::memcpy(row(out, s.first + i), row(x, s.first + i - 1), bytes);
    for (std::size_t i = s.count - std::min(s.count, s.kept); i < s.count; ++i) {
      std::memcpy(kept(s.position + i), row(x, s.first + i), bytes);
    }
  }
}

void CpuBackend::do_kept_rows(Tensor out) {
  for (const HiddenSegment& s : pass_.hidden(out.cols)) {
    for (std::size_t i = 0; i < s.count; ++i) {
      const float* kept = s.rows + (s.position + i) % s.kept * out.cols;
      std::memcpy(row(out, s.first + i), kept, out.cols * sizeof(float));
    }
  }
}

// On one thread: a row of 250,000 logits takes it a tenth of a millisecond.
std::size_t CpuBackend::do_top_k(std::span<Candidate> out, Tensor logits, const LogitEdits& edits, double* log_sum) {
  const std::span<float> given{row(logits, 0), logits.cols};
  if (log_sum != nullptr) *log_sum = log_sum_exp(given);
  const auto best = top_k_.select(given, out.size(), edits);
  std::ranges::copy(best, out.begin());
  return best.size();
}

}  // namespace qwen35::cpu
