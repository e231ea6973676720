// The operations of a self-check, each from inputs that are the same on every device.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "backend/backend.h"

namespace qwen35 {

struct CheckResults {
  std::vector<float> values;
  std::size_t cols;
};

struct CheckCase {
  const char* name;
  double expected;  // the largest difference, relative to the largest value of its row
  CheckResults (*run)(Backend& ops);
};

std::span<const CheckCase> check_cases() noexcept;

}  // namespace qwen35
