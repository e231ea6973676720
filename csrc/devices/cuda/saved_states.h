// Recurrent states of snapshots, in page-locked memory of the host. They leave the card by a stream of their own, while
// passes go on, and come back in the stream of the passes, before the one that needs them.
#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <vector>

#include "devices/cuda/memory.h"

namespace qwen35::cuda {

// Memory of the host. Where the system gives none that is page-locked it is ordinary memory: copies are the same, but
// the host waits for them.
class HostMemory {
 public:
  explicit HostMemory(std::size_t bytes);

  std::byte* data() noexcept { return pinned_ != nullptr ? pinned_->data() : pageable_.get(); }

 private:
  std::unique_ptr<PinnedBuffer> pinned_;
  std::unique_ptr<std::byte[]> pageable_;
};

class SavedStates : public std::enable_shared_from_this<SavedStates> {
 public:
  // Of `bytes` each. Throws DeviceError.
  SavedStates(std::size_t bytes, std::shared_ptr<Context> context, Memory& memory);
  ~SavedStates();
  SavedStates(const SavedStates&) = delete;
  SavedStates& operator=(const SavedStates&) = delete;

  // Contents are not defined. Any thread may take one and let it go. Throws OutOfMemory.
  Piece take();
  // Enqueue a copy, behind all that was enqueued before. `from` can be written to again, and `to` let go of, at once.
  // save() throws OutOfMemory.
  void save(std::byte* to, CUdeviceptr from);
  void restore(CUdeviceptr to, const std::byte* from);
  // Waits until no copy is under way: the host may read and write what it has.
  void settle();

 private:
  void put_back(std::unique_ptr<HostMemory> piece) noexcept;

  const std::size_t bytes_;
  std::shared_ptr<Context> context_;
  Memory& memory_;
  CUstream stream_ = nullptr;    // of the copies from staged_ to the host
  CUevent staged_at_ = nullptr;  // in the stream of the passes: staged_ has been written
  CUevent saved_at_ = nullptr;   // in this one: staged_ has been read
  Piece staged_;                 // on the card
  std::mutex mutex_;
  std::vector<std::unique_ptr<HostMemory>> unused_;  // page-locking is slow, so what was let go of is used again
  std::size_t made_ = 0;
};

}  // namespace qwen35::cuda
