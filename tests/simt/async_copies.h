// cp.async of one thread: copies in flight, in the order of their issue.
#pragma once

namespace simt {

inline constexpr unsigned kMostCopies = 128;  // in flight in a thread, a power of two

class AsyncCopies {
 public:
  // Copies `filled` bytes of `bytes`, which is also the alignment, and zeros the rest. They may arrive at any moment up
  // to the wait: until then the target holds 0xa5.
  void issue(void* to, const void* from, unsigned bytes, unsigned filled);
  void commit();
  // Returns when all but the last `pending` committed groups have arrived.
  void wait(unsigned pending);
  bool are_done() const { return done_ == issued_; }

 private:
  struct Copy {
    void* to;
    const void* from;
    unsigned bytes, filled, group;
  };

  unsigned group_ = 0;  // that the next copy belongs to
  unsigned issued_ = 0, done_ = 0;
  Copy copies_[kMostCopies];  // a ring
};

}  // namespace simt
