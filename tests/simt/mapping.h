// Memory straight from the system, which keeps no account of its own that a sanitizer could take for an access.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdio>
#include <cstdlib>

namespace simt {

inline unsigned char* map(std::size_t bytes) {
  constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  void* at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, kFlags, -1, 0);
  if (at == MAP_FAILED) {
    std::perror("simt: mmap");
    std::abort();
  }
  return static_cast<unsigned char*>(at);
}

}  // namespace simt
