// The error for an invalid metadata value.
#pragma once

#include <string>

namespace qwen35 {

// Throws FormatError.
[[noreturn]] void refuse_key(const std::string& key, const std::string& given, const std::string& expected);

}  // namespace qwen35
