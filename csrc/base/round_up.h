// Division that rounds up, and whole cache lines: rows of activations and parts of a page or slot start on one.
#pragma once

#include <cstddef>

namespace qwen35 {

inline constexpr std::size_t kLine = 64;  // bytes

constexpr std::size_t ceil_div(std::size_t count, std::size_t unit) noexcept { return (count + unit - 1) / unit; }

constexpr std::size_t round_up(std::size_t count, std::size_t unit) noexcept { return ceil_div(count, unit) * unit; }

constexpr std::size_t whole_lines(std::size_t bytes) noexcept { return round_up(bytes, kLine); }

}  // namespace qwen35
