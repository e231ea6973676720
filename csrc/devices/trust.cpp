#include "devices/trust.h"

#include <map>
#include <mutex>
#include <utility>

#include "base/error.h"

namespace qwen35 {

std::vector<CheckedOperation> self_check(const DeviceId& device) {
  constexpr unsigned kThreads = 1;  // of the host: there is next to nothing to do
  const auto checked = device.kind->open(device.number, kThreads);
  const auto reference = cpu::kind().open(0, kThreads);
  return self_check(*checked, *reference);
}

std::string distrust(const DeviceId& device) {
  static std::mutex mutex;
  static std::map<std::pair<const DeviceKind*, unsigned>, std::string> known;
  if (device.kind == &cpu::kind()) return {};
  const std::scoped_lock lock(mutex);
  const std::pair key(device.kind, device.number);
  if (const auto found = known.find(key); found != known.end()) return found->second;
  const std::string card = "the " + device.name() + " device ";
  try {
    const std::vector<CheckedOperation> operations = self_check(device);
    std::string failure = first_failure(operations);
    if (!failure.empty()) failure = card + failure + "; `qwen35 doctor` shows more";
    if (operations.back().error.empty()) known.emplace(key, failure);
    return failure;
  } catch (const OutOfMemory& error) {
    return "the memory of the " + device.name() + " device is full: " + error.what();
  } catch (const Error& error) {
    return error.what();
  }
}

}  // namespace qwen35
