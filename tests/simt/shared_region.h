// The shared memory of one block: its static variables, then its dynamic part. Every byte starts as 0xa5, so that what
// a kernel reads before it is written shows, and AddressSanitizer sees the bounds of each piece.
#pragma once

#include <cstddef>
#include <vector>

namespace simt {

class SharedRegion {
 public:
  static constexpr std::size_t kBytes = 512 * 1024;
  static constexpr std::size_t kEdgeBytes = 64;  // behind it: addresses of this block's edges for ThreadSanitizer

  void begin(std::size_t dynamic_bytes, std::size_t limit);
  unsigned char* dynamic() const { return memory_ + kStaticBytes; }
  void* variable(const void* tag, std::size_t bytes);
  bool holds(const void* at) const { return at >= memory_ && at < memory_ + kBytes; }
  char* edges() const { return reinterpret_cast<char*>(memory_ + kBytes); }
  void lay_aside();  // the next block gets other memory, until
  void take_back();  // all that was laid aside may be used again

 private:
  static constexpr std::size_t kStaticBytes = 128 * 1024;
  static constexpr unsigned kMostVariables = 64;
  struct Variable {
    const void* tag;
    void* at;
  };

  unsigned char* memory_ = nullptr;
  std::size_t left_ = 0;  // for static variables, as the device counts
  std::size_t end_ = 0;   // of those there are, with the gaps between them
  unsigned count_ = 0;
  Variable variables_[kMostVariables];
  std::vector<unsigned char*> aside_, free_;
};

}  // namespace simt
