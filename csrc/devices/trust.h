// Whether a device may be used: its self-check, once per process.
#pragma once

#include <string>
#include <vector>

#include "devices/open.h"
#include "devices/self_check.h"

namespace qwen35 {

struct Trust {
  std::string failure;  // why a device that is here is not used; empty where its results are the CPU's
  std::vector<CheckedOperation> operations;  // as far as the check got; none of the CPU
};

// Of a device without an absence of its kind's. Results are remembered; an error of the device is not, since memory
// that somebody else holds now may be free later.
Trust trust(const DeviceId& device);

}  // namespace qwen35
