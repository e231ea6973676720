// exp and what is made of it: the polynomials of devices/cpu/math.h step by step, so that they give the same bits as
// there. Device code is compiled without contraction; what is fused says fmaf.
#pragma once

#include "devices/cuda/device.cuh"

namespace qwen35::cuda {

DEVICE unsigned float_bits(float x) {
  unsigned bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}
DEVICE float bits_float(unsigned bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

// The low bytes of four numbers, the first lowest.
DEVICE unsigned pack_bytes(int a, int b, int c, int d) {
  return (a & 255) | (b & 255) << 8 | (c & 255) << 16 | static_cast<unsigned>(d) << 24;
}

// x = n ln 2 + r with |r| <= ln 2 / 2; exp(x) = 2^n (1 + r + r^2 p(r)). NaN stays NaN.
DEVICE float exp_of(float x) {
  x = -104.0f > x ? -104.0f : x;
  x = 89.0f < x ? 89.0f : x;
  const float round = 0x1.8p23f;
  const float shifted = fmaf(x, 0x1.715476p+0f, round);
  const float n = shifted - round;
  float r = fmaf(n, -0x1.62e400p-1f, x);
  r = fmaf(n, -0x1.7f7d1cp-20f, r);
  float p = fmaf(0x1.6a23d0p-10f, r, 0x1.123a20p-7f);
  p = fmaf(p, r, 0x1.5558f2p-5f);
  p = fmaf(p, r, 0x1.555492p-3f);
  p = fmaf(p, r, 0x1.fffffcp-2f);
  p = fmaf(p, r * r, r) + 1.0f;
  const unsigned bits = float_bits(shifted) - float_bits(round);
  const unsigned half = static_cast<unsigned>(static_cast<int>(bits) >> 1);  // 2^n itself may overflow
  return p * bits_float((half + 127u) << 23) * bits_float((bits - half + 127u) << 23);
}

DEVICE float sigmoid(float x) { return 1.0f / (1.0f + exp_of(-x)); }

DEVICE float silu(float x) { return x / (1.0f + exp_of(-x)); }

// log(1 + exp(x)) = max(x, 0) + log1p(y), y = exp(-|x|); log1p(y) = 2 atanh(y / (2 + y)).
DEVICE float softplus(float x) {
  const float y = exp_of(x < 0.0f ? x : -x);
  const float s = y / (2.0f + y);
  const float t = s * s;
  float p = fmaf(0x1.f17414p-4f, t, 0x1.b6e69ap-4f);
  p = fmaf(p, t, 0x1.2508b4p-3f);
  p = fmaf(p, t, 0x1.9996b0p-3f);
  p = fmaf(p, t, 0x1.555558p-2f);
  const float log1p = 2.0f * fmaf(s * t, p, s);
  return x > 0.0f ? x + log1p : log1p;
}

}  // namespace qwen35::cuda
