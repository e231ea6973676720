#include "devices/cuda/saved_pieces.h"

#include <new>

#include "base/error.h"

namespace qwen35::cuda {
namespace {

constexpr std::size_t kMostUnusedBytes = std::size_t{128} << 20;

}  // namespace

HostMemory::HostMemory(std::size_t bytes) {
  try {
    pinned_ = std::make_unique<PinnedBuffer>(bytes);
  } catch (const OutOfMemory&) {
    pageable_ = std::make_unique_for_overwrite<std::byte[]>(bytes);
  }
}

SavedPieces::SavedPieces(std::size_t bytes, std::shared_ptr<Context> context, Memory& memory)
    : bytes_(bytes), context_(std::move(context)), memory_(memory) {
  context_->make_current();
  QWEN35_CUDA(cuStreamCreate, &stream_, kStreamNonBlocking);
  QWEN35_CUDA(cuEventCreate, &staged_at_, kEventDefault);
  QWEN35_CUDA(cuEventCreate, &saved_at_, kEventDefault);
}

// Errors are of no use here: the context may be lost already.
SavedPieces::~SavedPieces() {
  try {
    settle();
  } catch (const Error&) {
  }
  const DriverFunctions& cuda = opened_driver().functions;
  cuda.cuEventDestroy(staged_at_);
  cuda.cuEventDestroy(saved_at_);
  cuda.cuStreamDestroy(stream_);
}

// What was let go of may still be copied from or to; whoever gets it next comes behind that, or calls settle().
Piece SavedPieces::take() {
  std::unique_ptr<HostMemory> memory;
  {
    const std::scoped_lock lock(mutex_);
    if (!unused_.empty()) {
      memory = std::move(unused_.back());
      unused_.pop_back();
    }
  }
  if (memory == nullptr) {
    context_->make_current();
    memory = std::make_unique<HostMemory>(bytes_);
    const std::scoped_lock lock(mutex_);
    unused_.reserve(++made_);  // so that put_back() cannot fail
  }
  std::byte* const data = memory->data();
  const std::shared_ptr<HostMemory> shared(memory.release(), [states = shared_from_this()](HostMemory* piece) {
    states->put_back(std::unique_ptr<HostMemory>(piece));
  });
  return {shared, data};
}

void SavedPieces::put_back(std::unique_ptr<HostMemory> piece) noexcept {
  const std::scoped_lock lock(mutex_);
  unused_.push_back(std::move(piece));
}

// By way of a copy on the card, so that the next pass does not wait for the bus. Where the card has no room for one,
// the host waits.
void SavedPieces::save(std::byte* to, CUdeviceptr from) {
  context_->flush();
  try {
    if (staged_ == nullptr) staged_ = memory_.take(bytes_);
  } catch (const OutOfMemory&) {
    settle();  // `to` may still be copied from or to
    return context_->download(to, from, bytes_);
  }
  QWEN35_CUDA(cuStreamWaitEvent, context_->stream(), saved_at_, 0);
  context_->copy(address(staged_.get()), from, bytes_);
  QWEN35_CUDA(cuEventRecord, staged_at_, context_->stream());
  QWEN35_CUDA(cuStreamWaitEvent, stream_, staged_at_, 0);
  QWEN35_CUDA(cuMemcpyDtoHAsync, to, address(staged_.get()), bytes_, stream_);
  QWEN35_CUDA(cuEventRecord, saved_at_, stream_);
}

void SavedPieces::restore(CUdeviceptr to, const std::byte* from) {
  context_->flush();
  QWEN35_CUDA(cuStreamWaitEvent, context_->stream(), saved_at_, 0);
  QWEN35_CUDA(cuMemcpyHtoDAsync, to, from, bytes_, context_->stream());
}

void SavedPieces::settle() {
  context_->synchronize();
  QWEN35_CUDA(cuStreamSynchronize, stream_);
}

void SavedPieces::trim() {
  const std::size_t most = kMostUnusedBytes / bytes_;
  std::vector<std::unique_ptr<HostMemory>> surplus;
  {
    const std::scoped_lock lock(mutex_);
    while (unused_.size() > most) {
      surplus.push_back(std::move(unused_.back()));
      unused_.pop_back();
      --made_;
    }
  }
  if (!surplus.empty()) settle();
}

}  // namespace qwen35::cuda
