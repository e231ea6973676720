// A file mapped read-only into memory. A page that the system can no longer deliver (the file was truncated, its disk
// failed) reads as zeros and is recorded; it does not end the process.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>

#include "base/input_file.h"
#include "base/torn_pages.h"

namespace qwen35 {

class Mapping {
 public:
  explicit Mapping(std::shared_ptr<const InputFile> file);
  ~Mapping();
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  // Null when the system cannot map this file, as some network and user-space file systems cannot.
  const std::byte* data() const noexcept { return data_; }
  std::size_t size() const noexcept { return size_; }

  // Lets the system drop the whole pages inside [data, data + bytes); a later access reads the file again.
  void release(const std::byte* data, std::size_t bytes) const noexcept;
  // Throws FormatError when a page could not be delivered, or the file is not what it was when it was opened.
  void require_intact() const;

 private:
  std::shared_ptr<const InputFile> file_;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  std::optional<TornPages> torn_;
};

}  // namespace qwen35
