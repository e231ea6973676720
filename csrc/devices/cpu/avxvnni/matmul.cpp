#include "devices/cpu/avx2/integers.h"

namespace qwen35::cpu {
namespace {

// Products of 8-bit integers by VNNI as processors without AVX-512 have it: unsigned weights times signed activations,
// four to a lane. Signed weights are stored, or looked up, plus 128.
struct AvxVnniIntegers : Avx2Bytes {
  static constexpr std::size_t kRowVectors = 1;
  static constexpr std::size_t kTileRows = 6;
  static constexpr std::size_t kExactTileRows = 3;
  static constexpr bool kSignedBytes = false;

  template <std::size_t>
  struct Sum {
    I total;
    void start(I bias) noexcept { total = bias; }
    template <std::size_t, std::size_t>
    void add(I w, I x) noexcept {
      total = _mm256_dpbusd_avx_epi32(total, w, x);
    }
    I finish(I) const noexcept { return total; }
  };

  static I whole_bytes(I x) noexcept { return x; }
  static I look_up(const std::int8_t* table, I nibbles) noexcept {
    const __m128i above_zero =
        _mm_xor_si128(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table)), _mm_set1_epi8(-128));
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(above_zero), nibbles);
  }
  static I levels(I nibbles) noexcept {
    const __m128i table = _mm_setr_epi8(1, 24, 45, 63, 79, 93, 106, 118, -127, -115, -103, -90, -75, -59, -39, -15);
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), nibbles);
  }
};

}  // namespace

void add_avxvnni_matmul(MatmulTable& table) noexcept { add_matmul<AvxVnniIntegers>(table); }

}  // namespace qwen35::cpu
