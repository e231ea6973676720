// Watches mapped memory for pages that the system cannot deliver, while the object lives. On POSIX that is the signal
// SIGBUS: the handler puts zeros in the page's place, notes it, and lets the reading thread go on, whichever it is; a
// SIGBUS from elsewhere goes to the handler that was there before. Windows lets nobody shorten a mapped file.
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
