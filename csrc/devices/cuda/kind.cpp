#include <string>

#include "base/error.h"
#include "devices/cuda/cuda_backend.h"
#include "devices/cuda/footprint.h"
#include "devices/device_kind.h"

namespace qwen35::cuda {
namespace {

class CudaKind final : public DeviceKind {
 public:
  const char* name() const noexcept override { return "cuda"; }
  std::string absence() const override {
    try {
      return card_absence(0);
    } catch (const Error& error) {
      return error.what();
    }
  }
  std::unique_ptr<Backend> open(unsigned threads) const override { return std::make_unique<CudaBackend>(0, threads); }
  DeviceMemory memory() const override { return card_memory(0); }
  bool uses_host_memory() const noexcept override { return false; }
  std::size_t weight_bytes(const MatrixShape& matrix) const override {
    return cuda::weight_bytes({nullptr, matrix.dtype, matrix.rows, matrix.cols}, matrix.groups);
  }
  Footprint footprint(const ModelShape& model, std::span<const MatrixShape> weights,
                      const Workload& work) const override {
    return cuda::footprint(model, weights, work);
  }
};

}  // namespace

const DeviceKind& kind() {
  static const CudaKind cuda;
  return cuda;
}

}  // namespace qwen35::cuda
