#include "base/system_memory.h"
#include "devices/cpu/cpu_backend.h"
#include "devices/cpu/footprint.h"
#include "devices/device_kind.h"

namespace qwen35::cpu {
namespace {

class CpuKind final : public DeviceKind {
 public:
  const char* name() const noexcept override { return "cpu"; }
  unsigned count() const noexcept override { return 1; }
  std::string absence(unsigned number) const override {
    return number == 0 ? "" : "all processors of this machine are one device, cpu";
  }
  std::unique_ptr<Backend> open(unsigned, unsigned threads) const override {
    return std::make_unique<CpuBackend>(chosen_isa(), threads);
  }
  DeviceMemory memory(unsigned) const override {
    const SystemMemory memory = system_memory();
    return {memory.free, memory.total};
  }
  bool uses_host_memory() const noexcept override { return true; }
  PassRows pass_rows() const override { return {.most = 512, .least = 512}; }
  std::size_t weight_bytes(const MatrixShape& matrix) const override { return cpu::weight_bytes(matrix); }
  Footprint footprint(const ModelShape& model, std::span<const MatrixShape> weights,
                      const Workload& work) const override {
    return cpu::footprint(kernels(chosen_isa()).matmul, model, weights, work);
  }
};

}  // namespace

const DeviceKind& kind() {
  static const CpuKind cpu;
  return cpu;
}

}  // namespace qwen35::cpu
