// Internal to gguf/: reads the header of a file, checking every count, length, offset and type before use.
#pragma once

#include <string>
#include <string_view>

#include "base/input_file.h"
#include "gguf/gguf.h"

namespace qwen35 {

// Of one file.
struct GgufHeader : GgufDirectory {
  std::uint32_t version = 0;
  std::uint64_t bytes = 0;  // up to the end of the tensor directory
};

// Throws FormatError when this is not the beginning of a whole GGUF (or its header), filesystem_error.
GgufHeader read_header(const InputFile& file, GgufExtent extent);

// Parses what has been read of a file's beginning.
class GgufParser {
 public:
  // The header continues beyond what has been read, and so does the file.
  struct NeedsMore {};

  GgufParser(const InputFile& file, GgufExtent extent, std::span<const std::byte> read) noexcept
      : file_(file), extent_(extent), begin_(read.data()), at_(begin_), end_(begin_ + read.size()) {}
  GgufHeader parse();  // throws NeedsMore, FormatError

 private:
  [[noreturn]] void fail(const std::string& what) const;
  std::uint64_t position() const noexcept { return static_cast<std::uint64_t>(at_ - begin_); }
  std::uint64_t left() const noexcept { return file_.size() - position(); }  // in the file
  void need(std::uint64_t bytes, const std::string& what) const;
  template <class T>
  T read(const char* what);
  std::string_view read_string(const char* what);
  std::string_view read_name(const char* what);

  void parse_version();
  void parse_value();
  void skip_values(GgufValue& value);
  void index_values();
  std::uint64_t read_alignment() const;

  void parse_tensor();
  void place_tensors(std::uint64_t alignment);
  void reserve_regions();

  const InputFile& file_;
  GgufExtent extent_;
  const std::byte* begin_;
  const std::byte* at_;
  const std::byte* end_;
  GgufHeader header_;
};

// A name for messages: in quotes, and cut where it is long.
std::string in_quotes(std::string_view name);

// The whole span is well-formed UTF-8 (RFC 3629: no surrogates, no overlong forms).
bool is_utf8(std::string_view text) noexcept;

}  // namespace qwen35
