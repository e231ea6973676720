#include <string>

#include "base/error.h"
#include "devices/cuda/cuda_backend.h"
#include "devices/cuda/footprint.h"
#include "devices/cuda/image.h"
#include "devices/device_kind.h"

namespace qwen35::cuda {
namespace {

class CudaKind final : public DeviceKind {
 public:
  const char* name() const noexcept override { return "cuda"; }
  unsigned count() const noexcept override { return opened_driver().cards; }
  std::string absence(unsigned number) const override {
    try {
      return card_absence(number);
    } catch (const Error& error) {
      return error.what();
    }
  }
  std::unique_ptr<Backend> open(unsigned number, unsigned threads) const override {
    return std::make_unique<CudaBackend>(number, threads);
  }
  DeviceMemory memory(unsigned number) const override { return card_memory(number); }
  Facts facts() const override {
    Facts found;
    if (const int version = opened_driver().version; version > 0) {
      found.emplace_back("driver", "CUDA " + version_text(version));
    }
    found.emplace_back(
        "kernels", has_kernel_image() ? kernel_architectures() : "none: this build was made without QWEN35_CUDA=ON");
    return found;
  }
  Facts device_facts(unsigned number) const override { return card_facts(number); }
  bool uses_host_memory() const noexcept override { return false; }
  // Of 256 experts of which a token takes 8, 2,048 rows give each 64, the rows of a tile.
  PassRows pass_rows() const override { return {.most = 2048, .least = 256}; }
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
