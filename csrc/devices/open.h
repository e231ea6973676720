// The one list of devices.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "devices/device_kind.h"

namespace qwen35 {

// Every kind of device that this program knows, the best first, whether one is here or not.
std::span<const DeviceKind* const> device_kinds() noexcept;

// A device of a kind, here or not.
struct DeviceId {
  const DeviceKind* kind;
  unsigned number;

  std::string name() const;     // as options spell it: "cuda", which is the first, or "cuda:1"
  std::string absence() const;  // why it is not used; empty where it is
  DeviceMemory memory() const { return kind->memory(number); }
};

// By name, here or not; "auto" is the first that is here. Throws InputError for an unknown name.
DeviceId device_named(std::string_view name);

// The same for one that is here. Throws Unavailable.
DeviceId find_device(std::string_view name);

// The same, opened. 0 threads: as many as this process may use.
std::unique_ptr<Backend> open_backend(std::string_view name, unsigned threads);

// The error of a device that has an absence.
Unavailable device_unavailable(const std::string& name, const std::string& absence);

}  // namespace qwen35
