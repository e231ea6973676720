#include "async_copies.h"

#include <cstdint>
#include <cstring>

#include "fibers.h"
#include "sanitizers.h"

namespace simt {

void AsyncCopies::issue(void* to, const void* from, unsigned bytes, unsigned filled) {
  if (reinterpret_cast<std::uintptr_t>(to) % bytes) fail("cp.async: the target is not aligned to its size");
  if (filled && reinterpret_cast<std::uintptr_t>(from) % bytes) fail("cp.async: the source is not aligned to its size");
  if (filled > bytes) fail("cp.async: more bytes from the source than the copy has");
  if (!is_shared(to)) fail("cp.async: the target is not in shared memory");
  if (filled && is_shared(from)) fail("cp.async: the source is in shared memory");
  if (issued_ - done_ == kMostCopies) fail("cp.async: more copies in flight than simt holds (kMostCopies)");
  std::memset(to, 0xa5, bytes);
  wrote(to, bytes);
  copies_[issued_++ % kMostCopies] = {to, from, bytes, filled, group_};
}

void AsyncCopies::commit() { ++group_; }

void AsyncCopies::wait(unsigned pending) {
  const unsigned end = group_ > pending ? group_ - pending : 0;  // the groups before it arrive
  for (; done_ != issued_ && copies_[done_ % kMostCopies].group < end; ++done_) {
    const Copy& copy = copies_[done_ % kMostCopies];
    read(copy.from, copy.filled);
    wrote(copy.to, copy.bytes);
    if (copy.filled) std::memcpy(copy.to, copy.from, copy.filled);
    std::memset(static_cast<unsigned char*>(copy.to) + copy.filled, 0, copy.bytes - copy.filled);
  }
}

}  // namespace simt
