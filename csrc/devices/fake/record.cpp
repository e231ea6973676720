#include "devices/fake/record.h"

#include <utility>

#include "base/error.h"

namespace qwen35::fake {
namespace {

bool is_due(std::size_t& left) noexcept { return left != 0 && --left == 0; }

}  // namespace

void Record::allocate(std::size_t bytes) {
  if (is_due(allocations_to_failure_)) {
    throw OutOfMemory("the fake device was told to fail at " + std::to_string(bytes) + " bytes");
  }
}

void Record::operate(Event event) {
  if (is_due(operations_to_failure_)) throw DeviceError("the fake device was told to fail at " + event.operation);
  events_.push_back(std::move(event));
}

}  // namespace qwen35::fake
