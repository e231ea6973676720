#include "devices/cpu/cpu_backend.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"

namespace qwen35::cpu {
namespace {

// Elements of a row operation that are worth waking one more worker for: some ten microseconds.
constexpr std::size_t kGrain = 1 << 16;

class CpuBuffer final : public Buffer {
 public:
  CpuBuffer(std::shared_ptr<std::byte> memory, std::size_t bytes) : data_(std::move(memory)), bytes_(bytes) {
    std::memset(data_.get(), 0, bytes);
  }

  std::byte* data() noexcept override { return data_.get(); }
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

std::byte* Scratch::grow(std::size_t bytes) {
  if (bytes > bytes_) {
    memory_.reset();
    bytes_ = 0;
    memory_ = allocate_bytes(bytes);
    bytes_ = bytes;
  }
  return memory_.get();
}

CpuBackend::CpuBackend(Isa isa, unsigned threads)
    : table_(kernels(isa)), name_(std::string("cpu-") + isa_name(isa)), workers_(threads) {}

std::unique_ptr<Buffer> CpuBackend::allocate(std::size_t bytes) {
  return std::make_unique<CpuBuffer>(pool_.take(bytes), bytes);
}

void CpuBackend::copy(std::byte* to, const std::byte* from, std::size_t bytes) { std::memcpy(to, from, bytes); }
void CpuBackend::upload(std::byte* to, const std::byte* from, std::size_t bytes) { std::memcpy(to, from, bytes); }
void CpuBackend::download(std::byte* to, const std::byte* from, std::size_t bytes) { std::memcpy(to, from, bytes); }

void CpuBackend::do_rms_norm(Tensor out, Tensor x, const float* weight, float eps) {
  const auto rows = [&](std::size_t begin, std::size_t end, unsigned) {
    for (std::size_t t = begin; t < end; ++t) {
      table_.rms_norm(out.data + t * out.stride, x.data + t * x.stride, weight, x.cols, eps);
    }
  };
  workers_.each(x.rows, rows, rows_per_worker(x.cols));
}

void CpuBackend::do_route(std::int32_t* experts, float* weights, Tensor logits, std::uint32_t top_k) {
  const auto rows = [&](std::size_t begin, std::size_t end, unsigned) {
    for (std::size_t t = begin; t < end; ++t) {
      table_.route(experts + t * top_k, weights + t * top_k, logits.data + t * logits.stride, logits.cols, top_k);
    }
  };
  workers_.each(logits.rows, rows, rows_per_worker(16 * logits.cols));
}

void CpuBackend::do_sigmoid_gate(Tensor h, Tensor gate) {
  const auto rows = [&](std::size_t begin, std::size_t end, unsigned) {
    for (std::size_t t = begin; t < end; ++t) {
      table_.sigmoid_gate(h.data + t * h.stride, gate.data[t * gate.stride], h.cols);
    }
  };
  workers_.each(h.rows, rows, rows_per_worker(h.cols));
}

void CpuBackend::do_take_rows(Tensor out, Tensor x, std::span<const std::uint32_t> rows) {
  for (std::size_t i = 0; i < rows.size(); ++i) {
    std::memcpy(out.data + i * out.stride, x.data + rows[i] * x.stride, x.cols * sizeof(float));
  }
}

}  // namespace qwen35::cpu
