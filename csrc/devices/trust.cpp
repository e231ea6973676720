#include "devices/trust.h"

#include <map>
#include <mutex>
#include <utility>

#include "base/error.h"

namespace qwen35 {
namespace {

std::vector<CheckedOperation> check_against_cpu(const DeviceId& device) {
  constexpr unsigned kThreads = 1;  // of the host: there is next to nothing to do
  const auto checked = device.kind->open(device.number, kThreads);
  const auto reference = cpu::kind().open(0, kThreads);
  return self_check(*checked, *reference);
}

}  // namespace

Trust trust(const DeviceId& device) {
  static std::mutex mutex;
  static std::map<std::pair<const DeviceKind*, unsigned>, Trust> known;
  if (device.kind == &cpu::kind()) return {};
  const std::scoped_lock lock(mutex);
  const std::pair key(device.kind, device.number);
  if (const auto found = known.find(key); found != known.end()) return found->second;
  const std::string name = "the " + device.name() + " device";
  try {
    Trust result{{}, check_against_cpu(device)};
    if (const std::string failure = first_failure(result.operations); !failure.empty()) {
      result.failure = name + " " + failure;
    }
    if (result.operations.back().error.empty()) known.emplace(key, result);
    return result;
  } catch (const OutOfMemory& error) {
    return {"the memory of " + name + " is full: " + error.what(), {}};
  } catch (const Error& error) {
    return {error.what(), {}};
  }
}

}  // namespace qwen35
