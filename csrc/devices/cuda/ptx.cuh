// All PTX that kernels use, behind names that tests/simt/cuda_words.h defines for the host too. Fragments lie as in
// "PTX ISA, Warp-level matrix instructions".
#pragma once

#include <cuda_fp16.h>

#include <cstdint>

#define DEVICE __device__ __forceinline__
#define QWEN35_KERNEL_BOUND(name, ...) extern "C" __global__ void __launch_bounds__(__VA_ARGS__) name
#define QWEN35_KERNEL_ANY(name) extern "C" __global__ void name
// UNROLL(4) before a loop: so many rounds at a time, whose loads are then under way together.
#define QWEN35_PRAGMA(text) _Pragma(#text)
#define UNROLL(rounds) QWEN35_PRAGMA(unroll rounds)
// SHARED(float[32], sums); is a variable that the threads of a block share.
#define SHARED(type, name) __shared__::qwen35::cuda::Named<type> name

namespace qwen35::cuda {

template <class T>
using Named = T;  // an array's type where only a name may stand

DEVICE unsigned shared_address(const void* p) { return static_cast<unsigned>(__cvta_generic_to_shared(p)); }

// The block's dynamic shared memory.
DEVICE unsigned char* shared_memory() {
  extern __shared__ __align__(128) unsigned char memory[];
  return memory;
}

DEVICE float half_to_float(std::uint16_t bits) { return __half2float(__ushort_as_half(bits)); }
DEVICE std::uint16_t float_to_half(float value) { return __half_as_ushort(__float2half_rn(value)); }

// Loads of 16 bytes, aligned to them. Read-only: nothing writes there while the kernel runs. Streamed: read once, so it
// shall not stay in the first cache either.
DEVICE uint4 load16(const void* from) { return *static_cast<const uint4*>(from); }
DEVICE uint4 load16_read_only(const void* from) { return __ldg(static_cast<const uint4*>(from)); }
DEVICE uint4 load16_streamed(const void* from) {
  uint4 v;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(__cvta_generic_to_global(from)));
  return v;
}
DEVICE uint2 load8_read_only(const void* from) { return __ldg(static_cast<const uint2*>(from)); }
DEVICE uint2 load8(const void* from) { return *static_cast<const uint2*>(from); }
DEVICE unsigned load4(const void* from) { return *static_cast<const unsigned*>(from); }
DEVICE void store16(void* to, uint4 value) { *static_cast<uint4*>(to) = value; }

// d [16, 8] += a [16, k] b [k, 8].
DEVICE void mma_s8_k16(int (&d)[4], const unsigned (&a)[2], const unsigned (&b)[1]) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
               : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(b[0]));
}
DEVICE void mma_s8_k32(int (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
DEVICE void mma_f16_k16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
DEVICE void mma_bf16_k16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Matrices of 8 rows of 16 bytes in shared memory; row r of matrix m begins where lane 8 m + r points.
DEVICE void ldmatrix_x4(unsigned (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}
DEVICE void ldmatrix_x2(unsigned (&r)[2], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(shared_address(row))
               : "memory");
}
DEVICE void ldmatrix_x4_transposed(unsigned (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}
DEVICE void ldmatrix_x2_transposed(unsigned (&r)[2], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(shared_address(row))
               : "memory");
}

// cp.async from global into shared memory: `filled` bytes from the source, zeros for the rest.
DEVICE void copy_async_16(void* to, const void* from, unsigned filled = 16) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)),
               "l"(__cvta_generic_to_global(from)), "r"(filled)
               : "memory");
}
DEVICE void copy_async_4(void* to, const void* from, unsigned filled = 4) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared_address(to)),
               "l"(__cvta_generic_to_global(from)), "r"(filled)
               : "memory");
}
DEVICE void copy_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// All but the last `kPending` groups of this thread have arrived; a barrier shows them to the others.
template <int kPending>
DEVICE void copy_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// Brings 128 bytes of weights into the second-level cache.
DEVICE void prefetch_weights(const void* from) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(__cvta_generic_to_global(from)));
}

// Raises a counter, which is 0 again after `count` times; returns the number before. Who finds it raised sees what each
// thread that raised it had written or seen: a release and an acquire (PTX ISA, "Memory Consistency Model").
DEVICE unsigned arrive(unsigned* counter, unsigned count) {
  unsigned before;
  asm volatile("atom.acq_rel.gpu.global.inc.u32 %0, [%1], %2;"
               : "=r"(before)
               : "l"(__cvta_generic_to_global(counter)), "r"(count - 1)
               : "memory");
  return before;
}

// Programmatic dependent launch: the kernel ahead has ended and its writes are seen; the kernel behind may begin. Every
// thread waits before it reads or writes what another kernel writes or reads.
DEVICE void grid_dependency_wait() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
DEVICE void grid_dependency_launch() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

}  // namespace qwen35::cuda
