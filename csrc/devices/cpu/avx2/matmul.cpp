#include "devices/cpu/simd/matmul.h"
#include "devices/cpu/avx2/isa.h"

namespace qwen35::cpu {
namespace {

// Products of 8-bit integers through sums of pairs in 16 bits, which must not overflow: unsigned weights of 4 to 6 bits
// leave room for a few sums before they are widened; whole bytes hand their sign to the activations.
struct Avx2Integers : Avx2 {
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
    template <std::size_t kStep>
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

  static I load_codes(const std::uint8_t* p) noexcept {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  }
  static I repeat(int byte) noexcept { return _mm256_set1_epi8(static_cast<char>(byte)); }
  static I repeat_four(const std::int8_t* p) noexcept {
    std::int32_t four;
    __builtin_memcpy(&four, p, sizeof four);
    return _mm256_set1_epi32(four);
  }
  static I both(I a, I b) noexcept { return _mm256_and_si256(a, b); }
  static I merge(I a, I b, I mask) noexcept { return _mm256_or_si256(a, _mm256_and_si256(b, mask)); }
  template <int n>
  static I shift_left(I x) noexcept {
    return _mm256_slli_epi32(x, n);
  }
  template <int n>
  static I shift_right(I x) noexcept {
    return _mm256_srli_epi32(x, n);
  }
  static I whole_bytes(I x) noexcept { return _mm256_xor_si256(x, repeat(0x80)); }
  static I levels(I nibbles) noexcept {
    const __m128i table = _mm_setr_epi8(-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113);
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), nibbles);
  }

  static F to_float(I x) noexcept { return _mm256_cvtepi32_ps(x); }
  static F widen(const std::uint8_t* p) noexcept {
    return to_float(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
  }
  static F widen(const std::int8_t* p) noexcept {
    return to_float(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
  }
  static F load_bf16(const std::uint16_t* p) noexcept {
    const I words = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    return from_bits(_mm256_slli_epi32(words, 16));
  }
  static void prefetch(const char* p) noexcept { _mm_prefetch(p, _MM_HINT_T0); }

  static I magnitude(F x) noexcept { return _mm256_and_si256(bits(x), _mm256_set1_epi32(0x7fffffff)); }

  static std::int32_t total(I x) noexcept {
    const __m128i a = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    const __m128i b = _mm_add_epi32(a, _mm_shuffle_epi32(a, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(b, _mm_shuffle_epi32(b, 0xb1)));
  }

  static std::uint32_t largest_of(I x) noexcept {
    const __m128i a = _mm_max_epu32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    const __m128i b = _mm_max_epu32(a, _mm_shuffle_epi32(a, 0x4e));
    return static_cast<std::uint32_t>(_mm_cvtsi128_si32(_mm_max_epu32(b, _mm_shuffle_epi32(b, 0xb1))));
  }

  static void round_block(RoundedBlock& out, const float* x) noexcept {
    F values[4];
    for (std::size_t i = 0; i < 4; ++i) values[i] = load(x + 8 * i);
    const I most = _mm256_max_epu32(_mm256_max_epu32(magnitude(values[0]), magnitude(values[1])),
                                    _mm256_max_epu32(magnitude(values[2]), magnitude(values[3])));
    const RoundedScale scale = rounded_scale(largest_of(most));
    I codes[4];
    for (std::size_t i = 0; i < 4; ++i) {
      codes[i] = _mm256_cvtps_epi32(mul(values[i], set(scale.factor)));
      if (scale.factor == 0.0f) codes[i] = _mm256_setzero_si256();  // NaN times 0 is no code
    }
    const I words = _mm256_packs_epi16(_mm256_packs_epi32(codes[0], codes[1]), _mm256_packs_epi32(codes[2], codes[3]));
    // Packing works within 128-bit halves; put the eight groups of four back in order.
    const I order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    _mm256_storeu_si256(reinterpret_cast<I*>(out.codes), _mm256_permutevar8x32_epi32(words, order));
    finish_block(out, scale.scale, total(_mm256_add_epi32(codes[0], codes[1])),
                 total(_mm256_add_epi32(codes[2], codes[3])));
  }
};

}  // namespace

void add_avx2_matmul(MatmulTable& table) noexcept { add_matmul<Avx2Integers>(table); }

}  // namespace qwen35::cpu
