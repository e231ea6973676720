#include "shared_region.h"

#include "fibers.h"
#include "mapping.h"
#include "sanitizers.h"

namespace simt {

constexpr std::size_t kAlignment = 128, kGap = 128;

void SharedRegion::begin(std::size_t dynamic_bytes, std::size_t limit) {
  if (!memory_) memory_ = map(kBytes + kEdgeBytes);
  left_ = limit - dynamic_bytes, end_ = 0, count_ = 0;
  forbid(memory_, kBytes);
  allow(dynamic(), dynamic_bytes);
  fill_unseen(dynamic(), 0xa5, dynamic_bytes);
}

void* SharedRegion::variable(const void* tag, std::size_t bytes) {
  for (unsigned i = 0; i < count_; ++i) {
    if (variables_[i].tag == tag) return variables_[i].at;
  }
  if (bytes > left_) fail("static and dynamic shared memory together are more than this kernel may have");
  if (count_ == kMostVariables) fail("more shared variables than simt holds (kMostVariables)");
  const std::size_t span = (bytes + kAlignment - 1) / kAlignment * kAlignment + kGap;
  if (end_ + span > kStaticBytes) fail("more static shared memory than simt holds (kStaticBytes)");
  unsigned char* at = memory_ + end_;
  left_ -= bytes, end_ += span;
  allow(at, bytes);
  fill_unseen(at, 0xa5, bytes);
  variables_[count_++] = {tag, at};
  return at;
}

void SharedRegion::lay_aside() {
  aside_.push_back(memory_);
  memory_ = nullptr;
  if (free_.empty()) return;
  memory_ = free_.back();
  free_.pop_back();
}

void SharedRegion::take_back() {
  free_.insert(free_.end(), aside_.begin(), aside_.end());
  aside_.clear();
}

}  // namespace simt
