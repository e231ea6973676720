#include "devices/open.h"

#include <array>
#include <charconv>
#include <optional>

#include "devices/trust.h"

namespace qwen35 {
namespace {

// The first device that is here.
DeviceId best_device() {
  for (const DeviceKind* kind : device_kinds()) {
    for (unsigned number = 0; number < kind->count(); ++number) {
      const DeviceId device{kind, number};
      if (device.absence().empty()) return device;
    }
  }
  throw Error("no device is here, not even the CPU");
}

// NAME or NAME:NUMBER of a kind. Nothing where it is neither.
std::optional<DeviceId> parse(const DeviceKind& kind, std::string_view name) {
  const std::string_view word = kind.name();
  if (!name.starts_with(word)) return std::nullopt;
  name.remove_prefix(word.size());
  if (name.empty()) return DeviceId{&kind, 0};
  if (name.front() != ':') return std::nullopt;
  unsigned number = 0;
  const char* const end = name.data() + name.size();
  const auto [rest, error] = std::from_chars(name.data() + 1, end, number);
  if (rest != end || error != std::errc()) return std::nullopt;
  return DeviceId{&kind, number};
}

}  // namespace

Unavailable device_unavailable(const std::string& name, const std::string& absence) {
  return Unavailable("device '" + name + "' is not available: " + absence +
                     ". Use 'auto' for the best device that is here");
}

std::string DeviceId::name() const {
  return number == 0 ? kind->name() : std::string(kind->name()) + ":" + std::to_string(number);
}

std::string DeviceId::absence() const {
  if (std::string missing = kind->absence(number); !missing.empty()) return missing;
  const auto [failure, operations] = trust(*this);
  return failure.empty() || operations.empty() ? failure : failure + "; `qwen35 doctor` shows more";
}

std::span<const DeviceKind* const> device_kinds() noexcept {
  static const std::array<const DeviceKind*, 3> kinds{&cuda::kind(), &metal::kind(), &cpu::kind()};
  return kinds;
}

DeviceId device_named(std::string_view name) {
  if (name == "auto") return best_device();
  std::string known = "auto";
  for (const DeviceKind* kind : device_kinds()) {
    if (const auto found = parse(*kind, name)) return *found;
    known += std::string(", ") + kind->name();
  }
  throw InputError("device is '" + std::string(name) + "', expected one of " + known +
                   ", or a number behind it as in cuda:1");
}

DeviceId find_device(std::string_view name) {
  const DeviceId device = device_named(name);
  if (const std::string absence = device.absence(); !absence.empty()) {
    throw device_unavailable(device.name(), absence);
  }
  return device;
}

std::unique_ptr<Backend> open_backend(std::string_view name, unsigned threads) {
  const DeviceId device = find_device(name);
  return device.kind->open(device.number, threads);
}

}  // namespace qwen35
