#include "devices/cuda/staging.h"

#include <algorithm>

namespace qwen35::cuda {

Staging::Half::~Half() {
  if (sent_ == nullptr) return;
  opened_driver().functions.cuEventSynchronize(sent_);
  opened_driver().functions.cuEventDestroy(sent_);
}

void Staging::Half::wait(std::size_t least, std::size_t bytes) {
  if (sent_ == nullptr) QWEN35_CUDA(cuEventCreate, &sent_, kEventDefault);
  QWEN35_CUDA(cuEventSynchronize, sent_);
  if (this->bytes() < least) buffer_ = std::make_unique<PinnedBuffer>(std::max(least, bytes));
}

void Staging::Half::send(CUdeviceptr to, std::size_t bytes, CUstream stream) {
  QWEN35_CUDA(cuMemcpyHtoDAsync, to, data(), bytes, stream);
  QWEN35_CUDA(cuEventRecord, sent_, stream);
}

Staging::Half& Staging::next(std::size_t least) {
  Half& half = halves_[turn_++ % halves_.size()];
  half.wait(std::max<std::size_t>(least, 1), half_bytes_);
  return half;
}

}  // namespace qwen35::cuda
