// What snapshots hold, recurrent states and pages, in page-locked memory of the host. It leaves the card by a stream of
// its own, while passes go on, and comes back in the stream of the passes, before the one that needs it.
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

class SavedPieces : public std::enable_shared_from_this<SavedPieces> {
 public:
  // Of `bytes` each. Throws DeviceError.
  SavedPieces(std::size_t bytes, std::shared_ptr<Context> context, Memory& memory);
  ~SavedPieces();
  SavedPieces(const SavedPieces&) = delete;
  SavedPieces& operator=(const SavedPieces&) = delete;

  // Contents are not defined. Any thread may take one and let it go. Throws std::bad_alloc.
  Piece take();
  // Enqueue a copy, behind all that was enqueued before. `from` can be written to again, and either let go of, at once.
  void save(std::byte* to, CUdeviceptr from);
  void restore(CUdeviceptr to, const std::byte* from);
  // Waits until no copy is under way: the host may read and write what it has.
  void settle();
  // Gives memory back to the system, but for some that is soon used again; waits where there is much.
  void trim();

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
