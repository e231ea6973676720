// Internal to gguf/: recognises files that are not GGUFs.
#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace qwen35 {

constexpr std::size_t kMagicBytes = 4;

bool begins_as_gguf(std::span<const std::byte> beginning) noexcept;

// A phrase that says what a file with this beginning is, and what to give instead.
std::string describe_foreign(std::span<const std::byte> beginning);

}  // namespace qwen35
