#include "base/system_memory.h"
#include "devices/cpu/cpu_backend.h"
#include "devices/device_kind.h"

namespace qwen35::cpu {
namespace {

class CpuKind final : public DeviceKind {
 public:
  const char* name() const noexcept override { return "cpu"; }
  std::string absence() const override { return {}; }
  std::unique_ptr<Backend> open(unsigned threads) const override {
    return std::make_unique<CpuBackend>(chosen_isa(), threads);
  }
  DeviceMemory memory() const override {
    const SystemMemory memory = system_memory();
    return {.free = memory.free, .total = memory.total, .is_host = true};
  }
};

}  // namespace

const DeviceKind& kind() {
  static const CpuKind cpu;
  return cpu;
}

}  // namespace qwen35::cpu
