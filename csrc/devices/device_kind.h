// A kind of device: what each folder below this one exports, and all that is known of it outside.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "backend/backend.h"
#include "backend/footprint.h"
#include "base/error.h"

namespace qwen35 {

// Bytes; 0 for what the system does not tell.
struct DeviceMemory {
  std::size_t free = 0;
  std::size_t total = 0;
};

class DeviceKind {
 public:
  virtual ~DeviceKind() = default;

  virtual const char* name() const noexcept = 0;  // as options spell it: "cpu"
  // Why no device of this kind can be opened: what was looked for and not found. Empty where one can.
  virtual std::string absence() const = 0;
  // For kinds without an absence. 0 threads: as many as this process may use.
  virtual std::unique_ptr<Backend> open(unsigned threads) const = 0;
  virtual DeviceMemory memory() const = 0;

  // For every kind that this build has, whether a device is here or not.
  virtual bool uses_host_memory() const noexcept = 0;  // the memory that this program lives in
  // Bytes of a packed weight. Throws FormatError as Backend::pack does.
  virtual std::size_t weight_bytes(const MatrixShape& matrix) const = 0;
  // Beside weights and activations; `weights` in the order of loading. Throws InputError for shapes that the device
  // has no kernels for, or a KV format that such heads cannot be kept in.
  virtual Footprint footprint(const ModelShape& model, std::span<const MatrixShape> weights,
                              const Workload& work) const = 0;
};

// The error of a kind that has an absence.
Unavailable unavailable(const DeviceKind& kind);

namespace cpu {
const DeviceKind& kind();
}
namespace cuda {
const DeviceKind& kind();
}
namespace metal {
const DeviceKind& kind();
}

}  // namespace qwen35
