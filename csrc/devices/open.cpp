#include "devices/open.h"

#include <string>

#include "base/error.h"
#include "devices/cpu/cpu_backend.h"

namespace qwen35 {

std::unique_ptr<Backend> open_backend(std::string_view device, unsigned threads) {
  if (device == "auto" || device == "cpu") return std::make_unique<cpu::CpuBackend>(cpu::chosen_isa(), threads);
  if (device == "cuda" || device == "metal") {
    throw Unavailable("device '" + std::string(device) + "': this build has no such backend. Use 'cpu' or 'auto'");
  }
  throw InputError("unknown device '" + std::string(device) + "'. Expected one of auto, cpu, cuda, metal");
}

}  // namespace qwen35
