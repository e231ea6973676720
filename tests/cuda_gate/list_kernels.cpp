// Prints every kernel's name, the threads of a block, and the bytes of shared memory that it is launched with.
#include <cstdio>
#include <string>
#include <string_view>

#include "devices/cuda/kernel_list.h"

namespace {

using namespace qwen35::cuda;

constexpr unsigned kHidden = 5120;  // of 27B: the row whose norm matmul_1 and swiglu_1 take

unsigned launched_bytes(std::string_view name) {
  for (unsigned tiles : {1, 2, 4}) {
    if (name == "attend_" + std::to_string(tiles)) return attend_room_bytes(tiles) + (tiles < 4 ? kHeadRoomBytes : 0);
  }
  const bool takes_norm = name == "matmul_1" || name == "swiglu_1";
  return takes_norm ? kHidden * 5 + kHidden / kBlockColumns * sizeof(BlockSums) : 0;
}

}  // namespace

int main() {
#define QWEN35_PRINT(name, Args, threads) std::printf("%s %u %u\n", #name, threads, launched_bytes(#name));
  QWEN35_CUDA_KERNELS(QWEN35_PRINT)
#undef QWEN35_PRINT
}
