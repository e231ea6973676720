// The one list of devices.
#pragma once

#include <memory>
#include <string_view>

#include "backend/backend.h"

namespace qwen35 {

// "auto" | "cpu" | "cuda" | "metal". 0 threads: as many as this process may use. Throws Error for a device that this
// build or this machine does not have.
std::unique_ptr<Backend> open_backend(std::string_view device, unsigned threads);

}  // namespace qwen35
