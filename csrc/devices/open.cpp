#include "devices/open.h"

#include <array>
#include <string>

namespace qwen35 {

Unavailable unavailable(const DeviceKind& kind) {
  return Unavailable("device '" + std::string(kind.name()) + "' is not available: " + kind.absence() +
                     ". Use 'auto' for the best device that is here");
}

std::span<const DeviceKind* const> device_kinds() noexcept {
  static const std::array<const DeviceKind*, 3> kinds{&cuda::kind(), &metal::kind(), &cpu::kind()};
  return kinds;
}

const DeviceKind& find_kind(std::string_view name) {
  std::string known = "auto";
  for (const DeviceKind* kind : device_kinds()) {
    if (name == kind->name() || (name == "auto" && kind->absence().empty())) return *kind;
    known += std::string(", ") + kind->name();
  }
  throw InputError("device is '" + std::string(name) + "', expected one of " + known);
}

const DeviceKind& find_device(std::string_view name) {
  const DeviceKind& kind = find_kind(name);
  if (!kind.absence().empty()) throw unavailable(kind);
  return kind;
}

std::unique_ptr<Backend> open_backend(std::string_view name, unsigned threads) {
  return find_device(name).open(threads);
}

}  // namespace qwen35
