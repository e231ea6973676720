#include "collectives.h"

#include <bit>
#include <cstring>

#include "fibers.h"
#include "sanitizers.h"

namespace simt {

namespace {

template <class Place>
Place& at(void* const (&places)[kWarp], unsigned lane) {
  return *static_cast<Place*>(places[lane]);
}

struct Shuffled {
  unsigned from;
  std::uint64_t value, result;
};

struct Vote {
  bool predicate;
  unsigned ballot;
};

struct Rows {
  const unsigned char* mine;
  const unsigned char* of_lane[kWarp];
};

}  // namespace

std::uint64_t shuffle(unsigned mask, std::uint64_t value, unsigned from) {
  if (!(mask >> from & 1)) fail("a shuffle reads a lane outside its mask");
  Shuffled mine{from, value, 0};
  warp_wait(mask, Wait::kShuffle, &mine, [](void* const(&places)[kWarp], unsigned lanes) {
    for (; lanes; lanes &= lanes - 1) {
      Shuffled& one = at<Shuffled>(places, unsigned(std::countr_zero(lanes)));
      one.result = at<Shuffled>(places, one.from).value;
    }
  });
  return mine.result;
}

unsigned ballot(unsigned mask, bool predicate) {
  Vote mine{predicate, 0};
  warp_wait(mask, Wait::kVote, &mine, [](void* const(&places)[kWarp], unsigned lanes) {
    unsigned all = 0;
    for (unsigned i = 0; i < kWarp; ++i) all |= unsigned{(lanes >> i & 1) && at<Vote>(places, i).predicate} << i;
    for (; lanes; lanes &= lanes - 1) at<Vote>(places, unsigned(std::countr_zero(lanes))).ballot = all;
  });
  return mine.ballot;
}

void ldmatrix(unsigned* registers, unsigned count, const void* row, bool is_transposed) {
  const unsigned me = lane();
  if (me < 8 * count) {  // the other lanes' pointers are not used
    if (reinterpret_cast<std::uintptr_t>(row) % 16) fail("ldmatrix: a row is not aligned to 16 bytes");
    if (!is_shared(row)) fail("ldmatrix: a row is not in shared memory");
  }
  Rows rows{static_cast<const unsigned char*>(row), {}};
  warp_wait(~0u, Wait::kLdmatrix, &rows, [](void* const(&places)[kWarp], unsigned) {
    for (unsigned to = 0; to < kWarp; ++to) {
      for (unsigned from = 0; from < kWarp; ++from) at<Rows>(places, to).of_lane[from] = at<Rows>(places, from).mine;
    }
  });
  for (unsigned m = 0; m < count; ++m) {
    std::uint16_t pair[2];
    for (unsigned i = 0; i < 2; ++i) {
      const unsigned r = is_transposed ? 2 * (me % 4) + i : me / 4, column = is_transposed ? me / 4 : 2 * (me % 4) + i;
      const unsigned char* from = rows.of_lane[8 * m + r] + 2 * column;
      read(from, 2);
      std::memcpy(&pair[i], from, 2);
    }
    registers[m] = pair[0] | unsigned{pair[1]} << 16;
  }
}

}  // namespace simt
