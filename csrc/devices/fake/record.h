// What a fake device was asked to do, what it holds, and what a test tells it to fail at.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "backend/step.h"

namespace qwen35::fake {

// An operation, and per segment of its step the tokens that the last row sees: what attend finds in the pages, and
// gated_delta_net in the recurrent state. Empty for operations that look back at nothing.
struct Event {
  std::string operation;
  std::uint32_t layer = 0;
  std::vector<std::vector<Token>> histories = {};
};

class Record {
 public:
  // The n-th allocation or operation from now on fails; 1 is the next, 0 none.
  void fail_allocation(std::size_t n) noexcept { allocations_to_failure_ = n; }
  void fail_operation(std::size_t n) noexcept { operations_to_failure_ = n; }

  void allocate(std::size_t bytes);  // throws OutOfMemory where it is told to
  void operate(Event event);         // throws DeviceError where it is told to

  const std::vector<Event>& events() const noexcept { return events_; }
  void clear_events() noexcept { events_.clear(); }

  std::size_t buffers = 0;  // in use
  std::size_t pages = 0;
  std::size_t saved_pages = 0;  // of these, where snapshots lie
  std::size_t slots = 0;

 private:
  std::size_t allocations_to_failure_ = 0;
  std::size_t operations_to_failure_ = 0;
  std::vector<Event> events_;
};

}  // namespace qwen35::fake
