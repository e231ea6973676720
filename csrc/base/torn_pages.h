// While it lives, handles pages of a mapping that the system cannot deliver. On POSIX they raise SIGBUS: the handler
// maps zeros there, records it and lets the reading thread continue; a SIGBUS from elsewhere goes to the previous
// handler. On Windows a mapped file cannot be shortened.
#pragma once

#include <cstddef>

namespace qwen35 {

class TornPages {
 public:
  TornPages(const std::byte* data, std::size_t bytes);
  ~TornPages();
  TornPages(const TornPages&) = delete;
  TornPages& operator=(const TornPages&) = delete;

  bool any() const noexcept;

 private:
  struct Range;
  struct Registry;
  Range* range_ = nullptr;
};

}  // namespace qwen35
