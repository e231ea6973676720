// Codes and small scales to and from the bits of a block; the halves are the caller's. Codes are the q of blocks.h, one
// byte each, in the order of the values.
#pragma once

#include <cstdint>

#include "tensor/blocks.h"

namespace qwen35 {

void pack_codes(const std::uint8_t* codes, BlockQ4_0& block) noexcept;
void pack_codes(const std::uint8_t* codes, BlockQ4_1& block) noexcept;
void pack_codes(const std::uint8_t* codes, BlockQ5_0& block) noexcept;
void pack_codes(const std::uint8_t* codes, BlockQ5_1& block) noexcept;
void pack_codes(const std::uint8_t* codes, BlockIQ4_NL& block) noexcept;
void pack_codes(const std::uint8_t* codes, BlockQ3_K& block) noexcept;
void pack_codes(const std::uint8_t* codes, BlockQ4_K& block) noexcept;
void pack_codes(const std::uint8_t* codes, BlockQ5_K& block) noexcept;
void pack_codes(const std::uint8_t* codes, BlockQ6_K& block) noexcept;
void pack_codes(const std::uint8_t* codes, BlockIQ4_XS& block) noexcept;

// Group scales as the format counts them, signed: s[g] - 32 of blocks.h.
void pack_scales(const int (&scales)[16], BlockQ3_K& block) noexcept;
void pack_scales(const int (&scales)[8], BlockIQ4_XS& block) noexcept;
void unpack_scales(const BlockQ3_K& block, int (&scales)[16]) noexcept;
void unpack_scales(const BlockIQ4_XS& block, int (&scales)[8]) noexcept;

}  // namespace qwen35
