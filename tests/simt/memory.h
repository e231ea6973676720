// Blocks of memory that the driver has given out: the device's, which is limited, and pinned memory of the host.
#pragma once

#include <cstddef>
#include <map>

namespace simt {

class Memory {
 public:
  // Filled with 0xff, which floats read as NaN. Null where `most` bytes are not enough. From malloc, so that
  // AddressSanitizer knows where a block ends.
  void* allocate(std::size_t bytes, std::size_t most);
  bool free(void* at);  // false for what is no block
  bool holds(const void* at, std::size_t bytes) const;
  std::size_t used() const { return used_; }
  std::size_t count() const { return blocks_.size(); }

 private:
  std::map<const unsigned char*, std::size_t> blocks_;
  std::size_t used_ = 0;  // bytes, in whole units
};

}  // namespace simt
