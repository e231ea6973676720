// UTF-8 validation, eight ASCII bytes at a time.
#include <cstring>

#include "gguf/parser.h"

namespace qwen35 {
namespace {

// Length of the well-formed sequence at p, at most `left` bytes; 0 when there is none. RFC 3629, section 4.
std::size_t sequence_length(const unsigned char* p, std::size_t left) noexcept {
  const auto continues = [&](std::size_t i) { return (p[i] & 0xc0) == 0x80; };
  if (p[0] < 0x80) return 1;
  if (p[0] < 0xc2) return 0;
  if (p[0] < 0xe0) return left >= 2 && continues(1) ? 2 : 0;
  if (p[0] < 0xf0) {
    if (left < 3 || !continues(1) || !continues(2)) return 0;
    if (p[0] == 0xe0 && p[1] < 0xa0) return 0;   // overlong
    if (p[0] == 0xed && p[1] >= 0xa0) return 0;  // surrogates
    return 3;
  }
  if (p[0] > 0xf4 || left < 4 || !continues(1) || !continues(2) || !continues(3)) return 0;
  if (p[0] == 0xf0 && p[1] < 0x90) return 0;   // overlong
  if (p[0] == 0xf4 && p[1] >= 0x90) return 0;  // beyond U+10FFFF
  return 4;
}

}  // namespace

bool is_utf8(std::string_view text) noexcept {
  const auto* p = reinterpret_cast<const unsigned char*>(text.data());
  std::size_t left = text.size();
  while (left > 0) {
    std::uint64_t eight;
    if (left >= sizeof eight) {
      std::memcpy(&eight, p, sizeof eight);
      if ((eight & 0x8080808080808080u) == 0) {
        p += sizeof eight;
        left -= sizeof eight;
        continue;
      }
    }
    const std::size_t length = sequence_length(p, left);
    if (length == 0) return false;
    p += length;
    left -= length;
  }
  return true;
}

}  // namespace qwen35
