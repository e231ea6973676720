// How the panel kernels read each format: 16 columns of codes, four at a time, with their scales and mins. Lanes are
// rows of the weights. V is the trait of an instruction set, as in simd/matmul.h.
#pragma once

#include "devices/panel_layout.h"

namespace qwen35::cpu {
namespace {

// Each format says in kWaitingRows for how many rows of activations a tile at most waits for memory rather than
// computes: as measured with AVX-512.
//
// Codes carry kBits bits and an offset of 2^kOffsetBits (none if 0) that the bias of the sum takes away.
template <class V, std::size_t kBitCount, std::size_t kOffset, std::size_t kPartCount, bool kHalves, bool kMins>
struct FormatBase {
  static constexpr std::size_t kBits = kBitCount;
  static constexpr std::size_t kOffsetBits = kOffset;
  static constexpr std::size_t kParts = kPartCount;  // blocks of 32 columns in a unit
  static constexpr bool kHasHalves = kHalves;
  static constexpr bool kHasMins = kMins;
  using F = typename V::F;
  using I = typename V::I;

  template <std::size_t half, std::size_t j>
  static I nibbles(const PanelNibbles& codes, std::size_t lane) noexcept {
    const I pairs = V::load_codes(codes[j][lane]);
    if constexpr (half == 1 && V::kShiftsBytes) return V::template shift_right<4>(pairs);
    return V::both(V::template shift_right<4 * half>(pairs), V::repeat(0x0f));
  }
};

template <class V>
constexpr std::size_t kByteOffset = V::kSignedBytes ? 0 : 7;

template <class V>
struct FormatQ4_0 : FormatBase<V, 4, 3, 1, false, false> {
  using Unit = Panel4;
  static constexpr std::size_t kWaitingRows = 2;
  using Base = FormatBase<V, 4, 3, 1, false, false>;
  template <std::size_t half, std::size_t j>
  static auto codes(const Unit& u, std::size_t, std::size_t lane) noexcept {
    return Base::template nibbles<half, j>(u.codes, lane);
  }
  static auto scale(const Unit& u, std::size_t, std::size_t, std::size_t lane) noexcept {
    return V::load(u.scale + lane);
  }
};

template <class V>
struct FormatIQ4_NL : FormatBase<V, 8, kByteOffset<V>, 1, false, false> {
  using Unit = Panel4;
  static constexpr std::size_t kWaitingRows = 2;
  using Base = FormatBase<V, 8, kByteOffset<V>, 1, false, false>;
  template <std::size_t half, std::size_t j>
  static auto codes(const Unit& u, std::size_t, std::size_t lane) noexcept {
    return V::levels(Base::template nibbles<half, j>(u.codes, lane));
  }
  static auto scale(const Unit& u, std::size_t, std::size_t, std::size_t lane) noexcept {
    return V::load(u.scale + lane);
  }
};

template <class V>
struct FormatIQ4_XS : FormatBase<V, 8, kByteOffset<V>, 8, false, false> {
  using Unit = PanelIQ4_XS;
  static constexpr std::size_t kWaitingRows = 2;
  using Base = FormatBase<V, 8, kByteOffset<V>, 8, false, false>;
  template <std::size_t half, std::size_t j>
  static auto codes(const Unit& u, std::size_t part, std::size_t lane) noexcept {
    return V::levels(Base::template nibbles<half, j>(u.codes[part], lane));
  }
  static auto scale(const Unit& u, std::size_t part, std::size_t, std::size_t lane) noexcept {
    return V::mul(V::load(u.scale + lane), V::widen(u.scales[part] + lane));
  }
};

template <class V>
struct FormatQ4_K : FormatBase<V, 4, 0, 8, false, true> {
  using Unit = PanelQ4_K;
  static constexpr std::size_t kWaitingRows = 2;
  using Base = FormatBase<V, 4, 0, 8, false, true>;
  template <std::size_t half, std::size_t j>
  static auto codes(const Unit& u, std::size_t part, std::size_t lane) noexcept {
    return Base::template nibbles<half, j>(u.parts[part].codes, lane);
  }
  static auto scale(const Unit& u, std::size_t part, std::size_t, std::size_t lane) noexcept {
    return V::mul(V::load(u.scale + lane), V::widen(u.parts[part].scales + lane));
  }
  static auto min(const Unit& u, std::size_t part, std::size_t, std::size_t lane) noexcept {
    return V::mul(V::load(u.min + lane), V::widen(u.parts[part].mins + lane));
  }
};

template <class V>
struct FormatQ5_K : FormatBase<V, 5, 0, 8, false, true> {
  using Unit = PanelQ5_K;
  static constexpr std::size_t kWaitingRows = 1;
  using Base = FormatBase<V, 5, 0, 8, false, true>;
  template <std::size_t half, std::size_t j>
  static auto codes(const Unit& u, std::size_t part, std::size_t lane) noexcept {
    const auto high = V::load_codes(u.parts[part].high[lane]);
    // Bit 4 half + j of each byte becomes bit 4.
    const auto fifth = half == 0 ? V::template shift_left<4 - j>(high) : V::template shift_right<j>(high);
    return V::merge(Base::template nibbles<half, j>(u.parts[part].codes, lane), fifth, V::repeat(0x10));
  }
  static auto scale(const Unit& u, std::size_t part, std::size_t, std::size_t lane) noexcept {
    return V::mul(V::load(u.scale + lane), V::widen(u.parts[part].scales + lane));
  }
  static auto min(const Unit& u, std::size_t part, std::size_t, std::size_t lane) noexcept {
    return V::mul(V::load(u.min + lane), V::widen(u.parts[part].mins + lane));
  }
};

template <class V>
struct FormatQ6_K : FormatBase<V, 6, 5, 8, true, false> {
  using Unit = PanelQ6_K;
  static constexpr std::size_t kWaitingRows = 1;
  using Base = FormatBase<V, 6, 5, 8, true, false>;
  template <std::size_t half, std::size_t j>
  static auto codes(const Unit& u, std::size_t part, std::size_t lane) noexcept {
    const auto high = V::load_codes(u.parts[part].high[half][lane]);
    // Bits 2 j of each byte become bits 4 and 5.
    const auto top =
        V::template shift_right < j<2 ? 0 : 2 * j - 4>(V::template shift_left < j<2 ? 4 - 2 * j : 0>(high));
    return V::merge(Base::template nibbles<half, j>(u.parts[part].codes, lane), top, V::repeat(0x30));
  }
  static auto scale(const Unit& u, std::size_t part, std::size_t half, std::size_t lane) noexcept {
    return V::mul(V::load(u.scale + lane), V::widen(u.parts[part].scales[half] + lane));
  }
};

template <class V>
struct FormatQ8_0 : FormatBase<V, 8, kByteOffset<V>, 1, false, false> {
  using Unit = PanelQ8_0;
  static constexpr std::size_t kWaitingRows = 2;
  template <std::size_t half, std::size_t j>
  static auto codes(const Unit& u, std::size_t, std::size_t lane) noexcept {
    return V::whole_bytes(V::load_codes(u.codes[4 * half + j][lane]));
  }
  static auto scale(const Unit& u, std::size_t, std::size_t, std::size_t lane) noexcept {
    return V::load(u.scale + lane);
  }
};

template <class V>
struct FormatLevels : FormatBase<V, 8, kByteOffset<V>, 1, true, false> {
  using Unit = PanelLevels;
  static constexpr std::size_t kWaitingRows = 0;
  using Base = FormatBase<V, 8, kByteOffset<V>, 1, true, false>;
  template <std::size_t half, std::size_t j>
  static auto codes(const Unit& u, std::size_t, std::size_t lane) noexcept {
    return V::look_up(u.levels, Base::template nibbles<half, j>(u.codes, lane));
  }
  static auto scale(const Unit& u, std::size_t, std::size_t half, std::size_t lane) noexcept {
    return V::load(u.scale[half] + lane);
  }
};

template <class V>
struct FormatAffine : FormatBase<V, 8, kByteOffset<V>, 1, true, true> {
  using Unit = PanelAffine;
  static constexpr std::size_t kWaitingRows = 0;
  template <std::size_t half, std::size_t j>
  static auto codes(const Unit& u, std::size_t, std::size_t lane) noexcept {
    return V::whole_bytes(V::load_codes(u.codes[4 * half + j][lane]));
  }
  static auto scale(const Unit& u, std::size_t, std::size_t half, std::size_t lane) noexcept {
    return V::load(u.scale[half] + lane);
  }
  static auto min(const Unit& u, std::size_t, std::size_t half, std::size_t lane) noexcept {
    return V::load(u.min[half] + lane);
  }
};

template <class V>
struct FormatF32 {
  using Unit = PanelF32;
  static constexpr std::size_t kWaitingRows = 6;
  static auto values(const Unit& u, std::size_t lane) noexcept { return V::load(u.values + lane); }
};
template <class V>
struct FormatF16 {
  using Unit = Panel16;
  static constexpr std::size_t kWaitingRows = 1;
  static auto values(const Unit& u, std::size_t lane) noexcept { return V::load(u.values + lane); }
};
template <class V>
struct FormatBF16 {
  using Unit = Panel16;
  static constexpr std::size_t kWaitingRows = 1;
  static auto values(const Unit& u, std::size_t lane) noexcept { return V::load_bf16(u.values + lane); }
};

}  // namespace
}  // namespace qwen35::cpu
