// The driver's own library, as the system finds it.
#pragma once

#include <string>

namespace qwen35::cuda {

class Library {
 public:
  // Opens it for the rest of the process.
  Library();

  bool is_open() const noexcept { return handle_ != nullptr; }
  bool is_missing() const noexcept { return is_missing_; }      // rather than there and of no use
  const std::string& error() const noexcept { return error_; }  // the system's words where it is not open
  void* find(const char* symbol) const noexcept;                // null where the library has none of that name

 private:
  void* handle_ = nullptr;
  bool is_missing_ = false;
  std::string error_;
};

}  // namespace qwen35::cuda
