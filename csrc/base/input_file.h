// A regular file opened for reading, read by position: a file that is truncated gives an error, and one that is
// replaced is still the file that was opened.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>

namespace qwen35 {

class InputFile {
 public:
#ifdef _WIN32
  using Handle = void*;
#else
  using Handle = int;
#endif

  // Throws std::filesystem::filesystem_error when the system refuses, FormatError when the path is not a regular file
  // or the file is empty.
  explicit InputFile(const std::filesystem::path& path);
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  const std::filesystem::path& path() const noexcept { return path_; }
  std::uint64_t size() const noexcept { return state_.size; }         // when it was opened
  std::int64_t modified() const noexcept { return state_.modified; }  // likewise; in the system's own units
  Handle handle() const noexcept { return handle_; }

  // Throws FormatError when the file ends too early, filesystem_error when the system refuses.
  void read(std::uint64_t offset, std::byte* to, std::size_t bytes) const;
  // Throws FormatError when the size or modification time differs from when the file was opened.
  void require_unchanged() const;

 private:
  struct State {
    std::uint64_t size = 0;
    std::int64_t modified = 0;
    bool operator==(const State&) const = default;
  };
  State query() const;
  // At most `bytes`, 0 at the end of the file.
  std::size_t read_some(std::uint64_t offset, std::byte* to, std::size_t bytes) const;

  std::filesystem::path path_;
  Handle handle_;
  State state_;
};

}  // namespace qwen35
