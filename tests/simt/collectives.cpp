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

// Of one lane: where its row begins, and the rows that hold its elements, two of each matrix.
struct Rows {
  const unsigned char* mine;
  unsigned count;
  bool is_transposed;
  const unsigned char* holding[4][2];
};

void find_rows(void* const (&places)[kWarp], unsigned) {
  for (unsigned lane = 0; lane < kWarp; ++lane) {
    Rows& rows = at<Rows>(places, lane);
    for (unsigned m = 0; m < rows.count; ++m) {
      for (unsigned i = 0; i < 2; ++i) {
        const unsigned row = rows.is_transposed ? 2 * (lane % 4) + i : lane / 4;
        rows.holding[m][i] = at<Rows>(places, 8 * m + row).mine;
      }
    }
  }
}

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
  Rows rows{static_cast<const unsigned char*>(row), count, is_transposed, {}};
  warp_wait(~0u, Wait::kLdmatrix, &rows, find_rows);
  for (unsigned m = 0; m < count; ++m) {
    std::uint16_t pair[2];
    for (unsigned i = 0; i < 2; ++i) {
      const unsigned char* from = rows.holding[m][i] + 2 * (is_transposed ? me / 4 : 2 * (me % 4) + i);
      read(from, 2);
      std::memcpy(&pair[i], from, 2);
    }
    registers[m] = pair[0] | unsigned{pair[1]} << 16;
  }
}

}  // namespace simt
