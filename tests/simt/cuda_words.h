// The words of CUDA C++, and the wrappers of csrc/devices/cuda/ptx.cuh, on the host: what device code includes where it
// is not compiled by nvcc. __noinline__ stays undefined: the host's library uses the name itself.
#pragma once

#include <math.h>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "collectives.h"
#include "fibers.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __constant__ static
#define __align__(n) alignas(n)

#define DEVICE inline __attribute__((always_inline))
// Beside the kernel, the most threads of its block, which the driver checks.
#define QWEN35_KERNEL_BOUND(name, threads, ...)            \
  inline constexpr unsigned name##_most_threads = threads; \
  inline void name
#define QWEN35_KERNEL_ANY(name) QWEN35_KERNEL_BOUND(name, 1024)
#define UNROLL(rounds)
#define SHARED(type, name)           \
  static const char name##_here = 0; \
  auto& name = *static_cast<std::add_pointer_t<type>>(simt::static_shared(&name##_here, sizeof(type)))

using uint3 = simt::Index;
using dim3 = simt::Extent;
#define threadIdx (simt::current->index)
#define blockIdx simt::block_index
#define blockDim simt::block_extent
#define gridDim simt::grid_extent
inline constexpr int warpSize = 32;

// clang-format off
struct alignas(8) int2 { int x, y; };
struct alignas(16) int4 { int x, y, z, w; };
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
// clang-format on
inline int2 make_int2(int x, int y) { return {x, y}; }
inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

inline void __syncthreads() { simt::block_wait(); }
inline void __syncwarp(unsigned mask = ~0u) { simt::warp_wait(mask, simt::Wait::kSyncwarp, nullptr, nullptr); }

namespace simt {

template <class T>
T shuffled(unsigned mask, T value, unsigned from) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8);
  using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
  return std::bit_cast<T>(static_cast<Bits>(shuffle(mask, std::bit_cast<Bits>(value), from)));
}

}  // namespace simt

// Lanes shuffle within sections of `width`, a power of two; what would come from outside the section is one's own.
template <class T>
T __shfl_sync(unsigned mask, T value, int from, int width = 32) {
  const int me = static_cast<int>(simt::lane());
  return simt::shuffled(mask, value, static_cast<unsigned>((me & ~(width - 1)) | (from & (width - 1))));
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int by, int width = 32) {
  const int me = static_cast<int>(simt::lane()), from = me ^ by;
  return simt::shuffled(mask, value, static_cast<unsigned>(from < (me & ~(width - 1)) + width ? from : me));
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32) {
  const unsigned me = simt::lane(), size = static_cast<unsigned>(width);
  return simt::shuffled(mask, value, (me & (size - 1)) + by < size ? me + by : me);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32) {
  const unsigned me = simt::lane(), size = static_cast<unsigned>(width);
  return simt::shuffled(mask, value, (me & (size - 1)) >= by ? me - by : me);
}
inline unsigned __ballot_sync(unsigned mask, int predicate) { return simt::ballot(mask, predicate != 0); }
inline int __any_sync(unsigned mask, int predicate) { return simt::ballot(mask, predicate != 0) != 0; }
inline int __all_sync(unsigned mask, int predicate) { return simt::ballot(mask, predicate != 0) == mask; }
inline unsigned __activemask() = delete;  // tells what the compiler did, not what the program says

inline int atomicAdd(int* at, int by) { return __atomic_fetch_add(at, by, __ATOMIC_RELAXED); }
inline unsigned atomicAdd(unsigned* at, unsigned by) { return __atomic_fetch_add(at, by, __ATOMIC_RELAXED); }
inline unsigned atomicOr(unsigned* at, unsigned bits) { return __atomic_fetch_or(at, bits, __ATOMIC_RELAXED); }
inline unsigned atomicExch(unsigned* at, unsigned value) { return __atomic_exchange_n(at, value, __ATOMIC_RELAXED); }
template <class T>
T atomicMax(T* at, T value) {
  T old = __atomic_load_n(at, __ATOMIC_RELAXED);
  while (old < value && !__atomic_compare_exchange_n(at, &old, value, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
  return old;
}

inline float __uint_as_float(unsigned bits) { return std::bit_cast<float>(bits); }
inline float __int_as_float(int bits) { return std::bit_cast<float>(bits); }
inline unsigned __float_as_uint(float value) { return std::bit_cast<unsigned>(value); }
inline int __float_as_int(float value) { return std::bit_cast<int>(value); }
inline int __float2int_rn(float value) { return static_cast<int>(rintf(value)); }
inline int __popc(unsigned bits) { return std::popcount(bits); }
inline int __ffs(int bits) { return __builtin_ffs(bits); }
inline int __clz(int bits) { return std::countl_zero(static_cast<unsigned>(bits)); }
inline unsigned __umulhi(unsigned a, unsigned b) { return static_cast<unsigned>(std::uint64_t{a} * b >> 32); }
inline int __dp4a(int a, int b, int c) {
  for (int i = 0; i < 4; ++i) c += static_cast<std::int8_t>(a >> 8 * i) * static_cast<std::int8_t>(b >> 8 * i);
  return c;
}
// Byte i of the result is the byte of (b, a) that the low three bits of nibble i name; the fourth repeats its sign.
inline unsigned __byte_perm(unsigned a, unsigned b, unsigned selector) {
  const std::uint64_t both = std::uint64_t{b} << 32 | a;
  unsigned result = 0;
  for (unsigned i = 0; i < 4; ++i) {
    const unsigned nibble = selector >> 4 * i & 15, byte = static_cast<unsigned>(both >> 8 * (nibble & 7)) & 255;
    result |= (nibble & 8 ? (byte & 128 ? 255u : 0u) : byte) << 8 * i;
  }
  return result;
}
template <class T>
T min(T a, T b) {
  return b < a ? b : a;
}
template <class T>
T max(T a, T b) {
  return a < b ? b : a;
}
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
template <class T>
T __ldg(const T* from) {
  return *from;
}

namespace qwen35::cuda {

DEVICE float half_to_float(std::uint16_t bits) { return static_cast<float>(std::bit_cast<_Float16>(bits)); }
DEVICE std::uint16_t float_to_half(float value) { return std::bit_cast<std::uint16_t>(static_cast<_Float16>(value)); }

template <class T>
T load_aligned(const void* from) {
  if (reinterpret_cast<std::uintptr_t>(from) % sizeof(T)) simt::fail("a load is not aligned to its size");
  return *static_cast<const T*>(from);
}
DEVICE uint4 load16(const void* from) { return load_aligned<uint4>(from); }
DEVICE uint4 load16_read_only(const void* from) { return load_aligned<uint4>(from); }
DEVICE uint4 load16_streamed(const void* from) { return load_aligned<uint4>(from); }
DEVICE uint2 load8_read_only(const void* from) { return load_aligned<uint2>(from); }
DEVICE uint2 load8(const void* from) { return load_aligned<uint2>(from); }
DEVICE unsigned load4(const void* from) { return load_aligned<unsigned>(from); }
DEVICE void store16(void* to, uint4 value) {
  if (reinterpret_cast<std::uintptr_t>(to) % 16) simt::fail("a store is not aligned to its size");
  *static_cast<uint4*>(to) = value;
}

using simt::mma_bf16_k16;
using simt::mma_f16_k16;
using simt::mma_s8_k16;
using simt::mma_s8_k32;

DEVICE void ldmatrix_x4(unsigned (&r)[4], const void* row) { simt::ldmatrix(r, 4, row, false); }
DEVICE void ldmatrix_x2(unsigned (&r)[2], const void* row) { simt::ldmatrix(r, 2, row, false); }
DEVICE void ldmatrix_x4_transposed(unsigned (&r)[4], const void* row) { simt::ldmatrix(r, 4, row, true); }
DEVICE void ldmatrix_x2_transposed(unsigned (&r)[2], const void* row) { simt::ldmatrix(r, 2, row, true); }

DEVICE unsigned char* shared_memory() { return simt::dynamic_shared(); }
DEVICE void copy_async_16(void* to, const void* from, unsigned filled = 16) {
  simt::current->copies.issue(to, from, 16, filled);
}
DEVICE void copy_async_4(void* to, const void* from, unsigned filled = 4) {
  simt::current->copies.issue(to, from, 4, filled);
}
DEVICE void copy_async_commit() { simt::current->copies.commit(); }
template <int kPending>
DEVICE void copy_async_wait() {
  simt::current->copies.wait(kPending);
}

DEVICE unsigned arrive(unsigned* counter, unsigned count) {
  unsigned before = __atomic_load_n(counter, __ATOMIC_RELAXED);
  while (!__atomic_compare_exchange_n(counter, &before, before + 1 < count ? before + 1 : 0, true, __ATOMIC_ACQ_REL,
                                      __ATOMIC_RELAXED)) {
  }
  return before;
}

DEVICE void prefetch_weights(const void*) {}
DEVICE void grid_dependency_wait() { simt::grid_dependency_passed(); }
DEVICE void grid_dependency_launch() {}

}  // namespace qwen35::cuda
