#include "devices/absent_kind.h"

namespace qwen35::metal {

const DeviceKind& kind() {
  static const AbsentKind absent("metal", "this build has no Metal backend");
  return absent;
}

}  // namespace qwen35::metal
