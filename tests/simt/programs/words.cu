// What the words of device code mean on the host, each against its definition: `words` ends with 0 where all hold, and
// names those that do not.
#include <algorithm>
#include <cmath>

#include "checks.h"
#include "program.h"

namespace qwen35::cuda {

struct WordsArgs {
  int* to;
  const void* from;
};

constexpr unsigned kShuffles = 4;  // xor, down, up, by index; for the widths 32, 8 and 2
KERNEL(shuffles, 32)(WordsArgs args) {
  const int lane = static_cast<int>(threadIdx.x);
  int* to = args.to + lane;
  for (int width : {32, 8, 2}) {
    *to = __shfl_xor_sync(~0u, lane, 5, width), to += 32;
    *to = static_cast<int>(__shfl_down_sync(~0u, double{threadIdx.x + 0.5}, 3, width)), to += 32;
    *to = static_cast<int>(__shfl_up_sync(~0u, threadIdx.x, 3, width)), to += 32;
    *to = static_cast<int>(__shfl_sync(~0u, static_cast<float>(lane), 11, width)), to += 32;
  }
}

// The two halves of a warp vote by themselves.
KERNEL(votes, 32)(WordsArgs args) {
  const unsigned mask = threadIdx.x < 16 ? 0x0000ffffu : 0xffff0000u;
  const unsigned odd = __ballot_sync(mask, threadIdx.x & 1);
  const int any = __any_sync(mask, threadIdx.x == 3), all = __all_sync(mask, threadIdx.x >= 16);
  args.to[threadIdx.x] = static_cast<int>(odd) + any + 2 * all;
}

// to [16, 8] = a [16, 32] b [8, 32]^T in int8: fragments by ldmatrix, then the same by halves along k.
KERNEL(matrix_s8, 32)(WordsArgs args) {
  auto* stage = shared_memory();
  for (unsigned i = threadIdx.x; i < 24 * 32 / 16; i += 32) {
    copy_async_16(stage + 16 * i, static_cast<const char*>(args.from) + 16 * i);
  }
  copy_async_commit();
  copy_async_wait<0>();
  __syncwarp();
  const unsigned lane = threadIdx.x, g = lane / 4, t = lane % 4;
  unsigned a[4], b[2];
  ldmatrix_x4(a, stage + lane % 16 * 32 + lane / 16 * 16);
  ldmatrix_x2(b, stage + 16 * 32 + lane % 8 * 32 + lane / 8 % 2 * 16);
  int whole[4] = {}, halves[4] = {};
  mma_s8_k32(whole, a, b);
  for (unsigned half = 0; half < 2; ++half) {
    mma_s8_k16(halves, {a[2 * half], a[2 * half + 1]}, {b[half]});
  }
  for (unsigned i = 0; i < 4; ++i) {
    int* to = args.to + (g + 8 * (i / 2)) * 8 + 2 * t + i % 2;
    to[0] = whole[i], to[128] = halves[i];
  }
}

// to [16, 8] = a [16, 16] b [16, 8] in 16 bits; b lies by rows and is transposed on its way. Two stages: f16, bf16.
KERNEL(matrix_16, 32)(WordsArgs args) {
  SHARED(std::uint16_t[16 * 16 + 16 * 8], stage);
  const unsigned lane = threadIdx.x;
  for (unsigned type = 0; type < 2; ++type) {
    const auto* from = static_cast<const std::uint16_t*>(args.from) + type * 384;
    for (unsigned i = lane; i < 384; i += 32) stage[i] = from[i];
    __syncwarp();
    unsigned a[4], b[2], b4[4];
    ldmatrix_x4(a, stage + lane % 16 * 16 + lane / 16 * 8);
    ldmatrix_x2_transposed(b, stage + 256 + lane % 16 * 8);
    ldmatrix_x4_transposed(b4, stage + 256 + lane % 16 * 8);  // twice the same two matrices
    float d[4] = {1, 1, 1, 1};
    if (type == 0) {
      mma_f16_k16(d, a, {b4[2], b4[3]});
    } else {
      mma_bf16_k16(d, a, b);
    }
    for (unsigned i = 0; i < 4; ++i) {
      args.to[type * 128 + (lane / 4 + 8 * (i / 2)) * 8 + 2 * (lane % 4) + i % 2] = static_cast<int>(d[i]);
    }
    __syncwarp();
  }
}

KERNEL(filled_copies, 1)(WordsArgs args) {
  auto* stage = shared_memory();
  copy_async_16(stage, args.from, 5);
  copy_async_4(stage + 16, nullptr, 0);
  copy_async_commit();
  copy_async_wait<0>();
  for (unsigned i = 0; i < 20; ++i) args.to[i] = stage[i];
}

// Who comes when: to[0] counts, and behind it stand blocks and threads in the order of their turns.
KERNEL(turns, 6)(WordsArgs args) {
  const unsigned ticket = atomicAdd(reinterpret_cast<unsigned*>(args.to), 1u);
  args.to[1 + ticket] = static_cast<int>(100 * (blockIdx.x + gridDim.x * blockIdx.y) + threadIdx.x +
                                         blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z));
}

KERNEL(maxima, 64)(WordsArgs args) {
  atomicMax(&args.to[0], static_cast<int>(threadIdx.x) - 100);
  atomicMax(reinterpret_cast<unsigned*>(&args.to[1]), threadIdx.x * 0x03ffffffu);
}

KERNEL(arrivals, 1)(WordsArgs args) {
  args.to[1 + blockIdx.x] = static_cast<int>(arrive(reinterpret_cast<unsigned*>(args.to), 3));
}

}  // namespace qwen35::cuda

namespace {

using namespace qwen35::cuda;

template <auto kKernel>
std::vector<int> results(std::size_t count, const simt::Launch& launch, const void* from = nullptr) {
  std::vector<int> to(count, -1000);
  simt::run_kernel<kKernel>(WordsArgs{to.data(), from}, launch);
  return to;
}

bool shuffles_hold() {
  const auto got = results<shuffles>(3 * kShuffles * 32, simt::over(1, 32));
  auto at = got.begin();
  bool holds = true;
  for (int width : {32, 8, 2}) {
    for (unsigned kind = 0; kind < kShuffles; ++kind) {
      for (int lane = 0; lane < 32; ++lane, ++at) {
        const int section = lane / width * width, in_section = lane % width;
        // "CUDA C++ Programming Guide, Warp Shuffle Functions": where the source is outside, the lane's own value; xor
        // may read an earlier section, not a later one.
        const int from[kShuffles] = {(lane ^ 5) < section + width ? lane ^ 5 : lane,
                                     in_section + 3 < width ? lane + 3 : lane, in_section >= 3 ? lane - 3 : lane,
                                     section + 11 % width};
        holds = holds && *at == from[kind];
      }
    }
  }
  return holds;
}

bool votes_hold() {
  const auto got = results<votes>(32, simt::over(1, 32));
  bool holds = true;
  for (unsigned lane = 0; lane < 32; ++lane) {
    holds = holds && unsigned(got[lane]) == (lane < 16 ? 0x0000aaaau + 1 : 0xaaaa0000u + 2);
  }
  return holds;
}

bool matrices_of_int8_hold() {
  alignas(16) signed char from[24 * 32];
  for (unsigned i = 0; i < sizeof from; ++i) from[i] = static_cast<signed char>(i * i * 7 + i + i / 32 * 11);
  const auto got = results<matrix_s8>(256, simt::over(1, 32, sizeof from), from);
  bool holds = true;
  for (unsigned i = 0; i < 256; ++i) {
    int sum = 0;
    for (unsigned k = 0; k < 32; ++k) sum += from[i % 128 / 8 * 32 + k] * from[(16 + i % 8) * 32 + k];
    holds = holds && got[i] == sum;
  }
  return holds;
}

bool matrices_of_16_bits_hold() {
  std::uint16_t from[2 * 384];
  const auto value = [](unsigned i) { return static_cast<float>(i * 31 % 23) - 11; };
  for (unsigned i = 0; i < 384; ++i) {
    from[i] = float_to_half(value(i));
    from[384 + i] = static_cast<std::uint16_t>(__float_as_uint(value(i)) >> 16);
  }
  const auto got = results<matrix_16>(256, simt::over(1, 32), from);
  bool holds = true;
  for (unsigned i = 0; i < 256; ++i) {
    float sum = 1;
    for (unsigned k = 0; k < 16; ++k) sum += value(i % 128 / 8 * 16 + k) * value(256 + k * 8 + i % 8);
    holds = holds && float(got[i]) == sum;
  }
  return holds;
}

bool filled_copies_hold() {
  alignas(16) const unsigned char from[16] = {9, 8, 7, 6, 5, 4, 3, 2, 1};
  auto want = std::vector<int>(20, 0);
  std::copy_n(from, 5, want.begin());
  return results<filled_copies>(20, simt::over(1, 1, 20), from) == want;
}

std::vector<int> order(unsigned seed) {
  simt::Launch launch;
  launch.grid = {2, 2, 1}, launch.block = {3, 1, 2}, launch.seed = seed;
  std::vector<int> to(25, 0);
  simt::run_kernel<turns>(WordsArgs{to.data(), nullptr}, launch);
  to.erase(to.begin());
  return to;
}

bool turns_hold() {
  std::vector<int> ascending;
  for (int i = 0; i < 24; ++i) ascending.push_back(100 * (i / 6) + i % 6);
  auto drawn = order(7);
  const bool differs = drawn != ascending && drawn == order(7) && drawn != order(8);
  std::sort(drawn.begin(), drawn.end());
  return order(0) == ascending && differs && drawn == ascending;
}

bool maxima_hold() {
  std::vector<int> to = {-70, 5};
  simt::run_kernel<maxima>(WordsArgs{to.data(), nullptr}, simt::over(1, 64));
  return to[0] == -37 && unsigned(to[1]) == 63 * 0x03ffffffu;
}

bool arrivals_hold() {
  std::vector<int> to(8);  // the counter, then what each block found
  simt::run_kernel<arrivals>(WordsArgs{to.data(), nullptr}, simt::over(7, 1));
  return to == std::vector{1, 0, 1, 2, 0, 1, 2, 0};
}

bool bits_hold() {
  bool holds = __dp4a(0x80ff7f01, 0x02030405, 10) == 10 + 5 + 127 * 4 - 3 - 128 * 2;
  holds = holds && __byte_perm(0x44332211u, 0x88776655u, 0x7053u) == 0x88116644u;
  holds = holds && __byte_perm(0x00008011u, 0, 0x9891u) == 0xff00ff80u;
  holds = holds && __float2int_rn(2.5f) == 2 && __float2int_rn(-3.5f) == -4 && __popc(0xf0u) == 4 && __ffs(8) == 4;
  for (unsigned bits = 0; bits < 65536; ++bits) {  // every half, by its definition, and back
    const auto half = static_cast<std::uint16_t>(bits);
    const int exponent = bits >> 10 & 31, fraction = bits & 1023;
    const float size =
        exponent ? std::ldexp(1024.0f + float(fraction), exponent - 25) : std::ldexp(float(fraction), -24);
    const float value = half_to_float(half);
    if (exponent == 31) {
      holds = holds && (fraction ? std::isnan(value) : std::isinf(value));
    } else {
      holds = holds && value == (bits >> 15 ? -size : size) && float_to_half(value) == half;
    }
  }
  return holds && float_to_half(2049.0f) == float_to_half(2048.0f) && float_to_half(2051.0f) == float_to_half(2052.0f);
}

}  // namespace

int main() {
  return run_checks({
      {"shuffles", shuffles_hold},
      {"votes", votes_hold},
      {"matrices of int8", matrices_of_int8_hold},
      {"matrices of 16 bits", matrices_of_16_bits_hold},
      {"copies filled with zeros", filled_copies_hold},
      {"turns", turns_hold},
      {"maxima", maxima_hold},
      {"arrivals", arrivals_hold},
      {"bits", bits_hold},
  });
}
