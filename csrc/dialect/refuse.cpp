#include "dialect/refuse.h"

#include "base/error.h"

namespace qwen35 {

void refuse_key(const std::string& key, const std::string& given, const std::string& expected) {
  throw FormatError(key + " is " + given + ", expected " + expected +
                    ". The file is damaged or was not written for this model family; convert it again.");
}

}  // namespace qwen35
