// A regular file mapped read-only into memory. The one place that knows how each platform maps files.
#pragma once

#include <cstddef>
#include <filesystem>

namespace qwen35 {

class MappedFile {
 public:
  // Throws std::filesystem::filesystem_error when the system refuses, FormatError when the path is not a regular file
  // or the file is empty.
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::filesystem::path& path() const noexcept { return path_; }
  const std::byte* data() const noexcept { return data_; }
  std::size_t size() const noexcept { return size_; }

  // Lets the system drop the whole pages inside [data, data + bytes); reading them again reads the file again.
  void release(const std::byte* data, std::size_t bytes) const noexcept;

 private:
  std::filesystem::path path_;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace qwen35
