#include "devices/cpu/avx2/integers.h"

namespace qwen35::cpu {
namespace {

// Products of 8-bit integers through sums of pairs in 16 bits, which must not overflow: unsigned weights of 4 to 6 bits
// leave room for a few sums before they are widened; whole bytes hand their sign to the activations.
struct Avx2Integers : Avx2Bytes {
  static constexpr std::size_t kRowVectors = 1;  // float sums wait in memory, integer sums in registers
  static constexpr std::size_t kTileRows = 6;
  static constexpr std::size_t kExactTileRows = 3;  // 12 sums of the 16 registers
  static constexpr bool kSignedBytes = true;

  static I widen_pairs(I x) noexcept { return _mm256_madd_epi16(x, _mm256_set1_epi16(1)); }

  // Pair sums of one product are at most 2 * 127 * (2^bits - 1): 8, 4 and 2 of them fit 16 bits for 4, 5 and 6 bits.
  template <std::size_t kBits>
  struct Sum {
    static constexpr std::size_t kRun = kBits == 8 ? 1 : std::size_t{128} >> kBits;
    I total, pairs;
    void start(I) noexcept { total = pairs = _mm256_setzero_si256(); }
    template <std::size_t kStep, std::size_t>
    void add(I w, I x) noexcept {
      if constexpr (kBits == 8) {
        pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
      } else {
        const I product = _mm256_maddubs_epi16(w, x);
        pairs = kStep % kRun == 0 ? product : _mm256_add_epi16(pairs, product);
      }
      if constexpr (kStep % kRun == kRun - 1) total = _mm256_add_epi32(total, widen_pairs(pairs));
    }
    I finish(I bias) const noexcept { return _mm256_add_epi32(total, bias); }
  };

  static I whole_bytes(I x) noexcept { return _mm256_xor_si256(x, repeat(0x80)); }
  static I look_up(__m128i table, I nibbles) noexcept {
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), nibbles);
  }
  static I look_up(const std::int8_t* table, I nibbles) noexcept {
    return look_up(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table)), nibbles);
  }
  static I levels(I nibbles) noexcept {
    return look_up(_mm_setr_epi8(-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113), nibbles);
  }
};

}  // namespace

void add_avx2_matmul(MatmulTable& table) noexcept { add_matmul<Avx2Integers>(table); }

}  // namespace qwen35::cpu
