#include "devices/cpu/work.h"

#include <string>

#include "base/error.h"
#include "devices/cpu/arena.h"

namespace qwen35::cpu {

void Work::reserve(const WorkBytes& bytes) {
  for (std::size_t i = 0; i < kWorkParts; ++i) {
    const WorkPart part{static_cast<std::uint8_t>(i)};
    if (bytes[part] > bytes_[part]) grow(part, bytes[part]);
  }
}

std::byte* Work::take_bytes(WorkPart part, std::size_t bytes) {
  if (bytes > bytes_[part]) {
    if (is_fixed_) {
      throw Error("an operation asks for " + std::to_string(bytes) + " bytes to work in, of which " +
                  std::to_string(bytes_[part]) + " were reserved before its pass");
    }
    grow(part, bytes);
  }
  return memory_[static_cast<std::size_t>(part)].get();
}

void Work::grow(WorkPart part, std::size_t bytes) {
  std::shared_ptr<std::byte>& memory = memory_[static_cast<std::size_t>(part)];
  memory.reset();  // before the larger one is allocated
  bytes_.set(part, 0);
  memory = allocate_bytes(bytes);
  bytes_.set(part, bytes);
}

}  // namespace qwen35::cpu
