// What device code is written in, under nvcc and on the host (tests/simt): CUDA C++'s own words, KERNEL, SHARED, and
// the functions of ptx.cuh. Rules that let it run on the host: PTX in ptx.cuh only; shared memory through SHARED or
// shared_memory(); one structure as a kernel's only parameter; no block waits in a loop for another, and what it leaves
// for one goes through arrives_last (warp.cuh).
#pragma once

// KERNEL(embed, 256)(EmbedArgs args) {...} is a kernel for blocks of up to 256 threads, listed in kernel_list.h. A
// third argument is the least number of blocks of a multiprocessor; without any, it is for blocks of any size.
#define QWEN35_KERNEL_CHOICE(a, b, c, choice, ...) choice
#define KERNEL(...) \
  QWEN35_KERNEL_CHOICE(__VA_ARGS__, QWEN35_KERNEL_BOUND, QWEN35_KERNEL_BOUND, QWEN35_KERNEL_ANY, )(__VA_ARGS__)

#if defined(__CUDACC__)
#include "devices/cuda/ptx.cuh"
#else
#include "cuda_words.h"
#endif
