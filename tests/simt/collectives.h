// What a warp does together: shuffles, votes and the matrix instructions. Compiled without ThreadSanitizer, so values
// come and go by copy.
#pragma once

#include <cstdint>

namespace simt {

// The value that lane `from` of the warp brings.
std::uint64_t shuffle(unsigned mask, std::uint64_t value, unsigned from);

// The lanes of `mask` whose predicate holds.
unsigned ballot(unsigned mask, bool predicate);

// ldmatrix: `count` matrices of 8 rows of 8 b16 into as many registers; row r of matrix m begins where lane 8 m + r
// points. Lane l gets elements 2 (l % 4) and the next of row l / 4; transposed, of column l / 4.
void ldmatrix(unsigned* registers, unsigned count, const void* row, bool is_transposed);

// d [16, 8] += a [16, k] b [k, 8], each lane with its fragments. int8 is exact and wraps as the device does; of f16 and
// bf16 the products are exact and summed in fp64, which hardware approximates in an order of its own.
void mma_s8_k16(int (&d)[4], const unsigned (&a)[2], const unsigned (&b)[1]);
void mma_s8_k32(int (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]);
void mma_f16_k16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]);
void mma_bf16_k16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]);

}  // namespace simt
