// The one list of devices.
#pragma once

#include <memory>
#include <span>
#include <string_view>

#include "devices/device_kind.h"

namespace qwen35 {

// Every kind of device that this program knows, the best first, whether one is here or not.
std::span<const DeviceKind* const> device_kinds() noexcept;

// By name, here or not; "auto" is the first that is here. Throws InputError for an unknown name.
const DeviceKind& find_kind(std::string_view name);

// The same for one that is here. Throws Unavailable.
const DeviceKind& find_device(std::string_view name);

// The same, opened. 0 threads: as many as this process may use.
std::unique_ptr<Backend> open_backend(std::string_view name, unsigned threads);

}  // namespace qwen35
