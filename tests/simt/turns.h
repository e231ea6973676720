// The threads of a block that could go on, in the order in which they became able to; or drawn from a seed.
#pragma once

#include <random>
#include <utility>

#include "fibers.h"

namespace simt {

class Turns {
 public:
  void reset() { first_ = end_ = 0; }
  void add(Thread& thread) { ring_[end_++ % kMostThreads] = &thread; }
  // Null where all wait.
  Thread* next(std::minstd_rand* random) {
    if (first_ == end_) return nullptr;
    if (random) std::swap(ring_[first_ % kMostThreads], ring_[(first_ + (*random)() % (end_ - first_)) % kMostThreads]);
    return ring_[first_++ % kMostThreads];
  }

 private:
  unsigned first_ = 0, end_ = 0;
  Thread* ring_[kMostThreads];
};

}  // namespace simt
