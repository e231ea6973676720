// A kind of device: what each folder below this one exports, and all that is known of it outside. The devices of a kind
// are numbered from 0.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "backend/backend.h"
#include "backend/footprint.h"
#include "base/error.h"

namespace qwen35 {

// Bytes; 0 for what the system does not tell.
struct DeviceMemory {
  std::size_t free = 0;
  std::size_t total = 0;
  std::size_t cache = 0;  // the last one before this memory
};

// How many tokens of a prompt share a pass: the most that are of use, and the fewest, where memory is short.
struct PassRows {
  std::size_t most;
  std::size_t least;
};

// What a report says of a kind or a device: names and values, in words.
using Facts = std::vector<std::pair<std::string, std::string>>;

class DeviceKind {
 public:
  virtual ~DeviceKind() = default;

  virtual const char* name() const noexcept = 0;  // as options spell it: "cpu"
  virtual unsigned count() const noexcept = 0;    // how many there are, of use or not
  // Why this device cannot be opened: what was looked for and not found. Empty where it can.
  virtual std::string absence(unsigned number) const = 0;
  // For devices without an absence. 0 threads: as many as this process may use.
  virtual std::unique_ptr<Backend> open(unsigned number, unsigned threads) const = 0;
  virtual DeviceMemory memory(unsigned number) const = 0;

  // For reports, of use or not.
  virtual Facts facts() const { return {}; }
  virtual Facts device_facts(unsigned) const { return {}; }  // of one that count() counts

  // For every kind that this build has, whether a device is here or not.
  virtual bool uses_host_memory() const noexcept = 0;  // the memory that this program lives in
  virtual PassRows pass_rows() const = 0;
  // Bytes of a packed weight. Throws FormatError as Backend::pack does.
  virtual std::size_t weight_bytes(const MatrixShape& matrix) const = 0;
  // Beside weights and activations; `weights` in the order of loading. Throws InputError for shapes that the device
  // has no kernels for, or a KV format that such heads cannot be kept in.
  virtual Footprint footprint(const ModelShape& model, std::span<const MatrixShape> weights,
                              const Workload& work) const = 0;
};

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
