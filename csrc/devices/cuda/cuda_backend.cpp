#include "devices/cuda/cuda_backend.h"

#include <algorithm>

#include "base/error.h"
#include "base/round_up.h"

namespace qwen35::cuda {
namespace {

class CudaBuffer final : public Buffer {
 public:
  CudaBuffer(Piece memory, std::size_t bytes) : memory_(std::move(memory)), bytes_(bytes) {}

  DevicePtr<std::byte> data() noexcept override { return DevicePtr<std::byte>(address(memory_.get())); }
  std::size_t bytes() const noexcept override { return bytes_; }

 private:
  Piece memory_;
  std::size_t bytes_;
};

// The most values in 8 bits that one input of a product has in a model of this shape.
std::size_t most_quantised(const ModelShape& model, std::size_t rows) noexcept {
  std::size_t cols = std::max({model.hidden, model.delta_width(), model.query_width(), model.feed_forward});
  if (model.mtp_layers > 0) cols = std::max(cols, 2 * model.hidden);
  if (model.moe) cols = std::max({cols, model.moe->top_k * model.moe->width, model.moe->shared_width});
  return rows * round_up(cols, kBlockColumns);
}

}  // namespace

std::size_t product_work_bytes(const ModelShape& model, std::size_t rows) {
  std::size_t bytes = kMostQuantised * QuantisedMemo::bytes(most_quantised(model, rows)) + sizeof(unsigned) +
                      top_k_bytes(model.vocabulary);
  if (model.moe) {
    const std::size_t pairs = rows * model.moe->top_k;
    bytes += sorted_bytes(pairs, model.moe->experts) + pairs * model.hidden * sizeof(float);
  }
  return bytes;
}

CudaBackend::CudaBackend(unsigned number, unsigned threads)
    : name_(number == 0 ? "cuda" : "cuda:" + std::to_string(number)),
      context_(std::make_shared<Context>(number)),
      memory_(std::make_shared<Memory>(context_)),
      workers_(threads),
      arrived_(memory_->take(sizeof(unsigned))) {
  context_->fill(address(arrived_.get()), 0, sizeof(unsigned));
}

CudaBackend::~CudaBackend() = default;

std::unique_ptr<Buffer> CudaBackend::allocate(std::size_t bytes) {
  Piece piece = memory_->take(bytes);
  context_->fill(address(piece.get()), 0, bytes);
  return std::make_unique<CudaBuffer>(std::move(piece), bytes);
}

void CudaBackend::copy(DevicePtr<std::byte> to, DevicePtr<const std::byte> from, std::size_t bytes) {
  settle_norm();
  memo_.forget_all();
  context_->copy(to.address(), from.address(), bytes);
}
void CudaBackend::upload(DevicePtr<std::byte> to, const std::byte* from, std::size_t bytes) {
  settle_norm();
  memo_.forget_all();
  context_->upload(to.address(), from, bytes);
}
void CudaBackend::download(std::byte* to, DevicePtr<const std::byte> from, std::size_t bytes) {
  settle_norm();
  context_->download(to, from.address(), bytes);
}

void CudaBackend::synchronize() {
  settle_norm();
  context_->synchronize();
}

std::size_t CudaBackend::work_bytes() const noexcept {
  return memo_.bytes() + step_.bytes() + sorted_.bytes() + products_.bytes() + picks_.bytes() + attention_.bytes();
}

void CudaBackend::do_reserve(const ModelShape& model, const Step& step) {
  context_->make_current();  // of whatever thread calls
  settle_norm();             // what it writes may be taken anew
  step_.reserve(*context_, *memory_, step);
  reserve_attention(model.attention, step);
  const std::size_t rows = step.tokens.size();
  memo_.reserve(*memory_, most_quantised(model, rows));
  if (model.moe) {
    const std::size_t pairs = rows * model.moe->top_k;
    sorted_.reserve(*memory_, sorted_bytes(pairs, model.moe->experts));
    products_.reserve(*memory_, pairs * model.hidden * sizeof(float));
  }
  picks_.reserve(*memory_, top_k_bytes(model.vocabulary));
  top_k_.reserve(model.vocabulary);
  logits_.reserve(model.vocabulary);
}

void CudaBackend::do_run(const Step& step, const std::function<void()>& pass) {
  context_->make_current();
  settle_norm();
  memo_.forget_all();
  step_.begin(*context_, *memory_, step, pages_, slots_);
  context_->begin_recording();
  try {
    pass();  // a norm at its end is left to the head's product
    context_->end_recording();
  } catch (...) {
    norm_ = {};
    context_->drop_recording();
    throw;
  }
}

}  // namespace qwen35::cuda
