// Whether a device may be used: its self-check, once per process.
#pragma once

#include <string>
#include <vector>

#include "devices/open.h"
#include "devices/self_check.h"

namespace qwen35 {

// Of a device without an absence of its kind's, against the CPU. Throws what opening it throws.
std::vector<CheckedOperation> self_check(const DeviceId& device);

// Why a device that is here is not to be trusted; empty where its results are the CPU's. A result is remembered; an
// error of the device is not, since memory that somebody else holds now may be free later.
std::string distrust(const DeviceId& device);

}  // namespace qwen35
