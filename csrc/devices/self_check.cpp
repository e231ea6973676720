#include "devices/self_check.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <limits>

#include "base/error.h"
#include "devices/self_check_cases.h"

namespace qwen35 {
namespace {

double largest_difference(const CheckResults& found, const CheckResults& wanted) {
  double worst = 0;
  for (std::size_t row = 0; row < wanted.values.size(); row += wanted.cols) {
    double scale = 0;
    for (std::size_t i = row; i < row + wanted.cols; ++i) scale = std::max(scale, std::abs(double{wanted.values[i]}));
    for (std::size_t i = row; i < row + wanted.cols; ++i) {
      const double difference = std::abs(double{found.values[i]} - double{wanted.values[i]});
      if (!std::isfinite(difference)) return std::numeric_limits<double>::infinity();
      if (difference > 0) worst = std::max(worst, difference / scale);
    }
  }
  return worst;
}

std::string in_short(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2g", value);
  return text;
}

}  // namespace

std::vector<CheckedOperation> self_check(Backend& device, Backend& reference) {
  using Clock = std::chrono::steady_clock;
  std::vector<CheckedOperation> operations;
  for (const CheckCase& one : check_cases()) {
    CheckedOperation& checked = operations.emplace_back();
    checked.name = one.name;
    checked.expected = one.expected;
    const CheckResults wanted = one.run(reference);
    const auto begin = Clock::now();
    try {
      const CheckResults found = one.run(device);
      checked.seconds = std::chrono::duration<double>(Clock::now() - begin).count();
      checked.difference = largest_difference(found, wanted);
    } catch (const OutOfMemory&) {
      throw;
    } catch (const Error& error) {
      checked.error = error.what();
      break;
    }
  }
  return operations;
}

std::string first_failure(const std::vector<CheckedOperation>& operations) {
  const auto failed = std::ranges::find_if_not(operations, &CheckedOperation::passes);
  if (failed == operations.end()) return {};
  if (!failed->error.empty()) return "fails in " + failed->name + ": " + failed->error;
  return "computes wrongly in " + failed->name + " (difference " + in_short(failed->difference) +
         ", expected at most " + in_short(failed->expected) + ")";
}

}  // namespace qwen35
