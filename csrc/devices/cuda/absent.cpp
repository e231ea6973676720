#include "devices/absent_kind.h"

namespace qwen35::cuda {

const DeviceKind& kind() {
  static const AbsentKind absent("cuda", "this build has no CUDA backend");
  return absent;
}

}  // namespace qwen35::cuda
