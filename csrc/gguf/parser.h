// Internal to gguf/: fills a Gguf from its mapped file, checking every count, length, offset and type before use.
#pragma once

#include <string>

#include "gguf/gguf.h"

namespace qwen35 {

class GgufParser {
 public:
  GgufParser(Gguf& gguf, GgufExtent extent) noexcept
      : gguf_(gguf), extent_(extent), begin_(gguf.file_.data()), at_(begin_), end_(begin_ + gguf.file_.size()) {}
  void parse();

 private:
  [[noreturn]] void fail(const std::string& what) const;
  std::uint64_t left() const noexcept { return static_cast<std::uint64_t>(end_ - at_); }
  void need(std::uint64_t bytes, const std::string& what) const;
  template <class T>
  T read(const char* what);
  std::string_view read_string(const char* what);
  std::string_view read_name(const char* what);

  void parse_value();
  void skip_values(GgufValue& value);
  void index_values();
  std::uint64_t read_alignment() const;
  void refuse_shards() const;

  void parse_tensor();
  void place_tensors(std::uint64_t alignment);
  void reserve_regions();
  void index_tensors();

  Gguf& gguf_;
  GgufExtent extent_;
  const std::byte* begin_;
  const std::byte* at_;
  const std::byte* end_;
  std::vector<std::uint64_t> offsets_;  // of each tensor, from the start of the data section
};

// The whole span is well-formed UTF-8 (RFC 3629: no surrogates, no overlong forms).
bool is_utf8(std::string_view text) noexcept;

}  // namespace qwen35
