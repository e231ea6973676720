// Where the keys and values of a layer lie in the pages of a sequence.
//
// Plain, per layer: keys [G][256][A], then values [G][256][A], in fp16 or fp32. Quantised, per layer and key/value
// head: codes of the keys, their scales [A / 32][256], codes of the values, their scales [8][A], scales in fp16. Blocks
// of 32 run along A in the keys and along the tokens in the values. Codes lie in tiles of 16 rows and 32 columns, as
// the tensor cores take them: lane (row % 8) * 4 + column % 16 / 4 has four words of four bytes, or two words of eight
// nibbles. Tiles of keys are [A / 32][256 / 16]; tiles of values [8][A / 16], the rows of two of them being 32
// neighbouring elements of the head in the order of value_row().
#pragma once

#include "devices/cuda/device.cuh"
#include "devices/cuda/kernel_args.h"

namespace qwen35::cuda {

// KvFormat.
inline constexpr unsigned kKvF32 = 0, kKvF16 = 1, kKvQ8 = 2, kKvQ4 = 3, kKvK8V4 = 4;

DEVICE bool is_quantised(unsigned format) { return format >= kKvQ8; }

// StepPlaces' reads_quantised: the first page, the query's own and the one before it are read plain.
DEVICE bool reads_quantised(unsigned page, unsigned own_page) { return page >= 1 && page + 2 <= own_page; }

template <bool kIsWide>
inline constexpr unsigned kCodeTileBytes = kIsWide ? 512 : 256;  // 16 x 32 codes of 8 or 4 bits

// A head's part of a quantised layer.
struct QuantisedHead {
  const Byte* keys;
  const Byte* key_scales;
  const Byte* values;
  const Byte* value_scales;
};

DEVICE unsigned code_bytes(bool is_wide, unsigned width) { return kPageKeys * width / (is_wide ? 1 : 2); }
DEVICE unsigned scale_bytes(unsigned width) { return kPageKeys / kBlockColumns * width * 2; }

DEVICE QuantisedHead quantised_head(const Byte* page, const KvLayer& layer, unsigned format, unsigned head) {
  const unsigned keys = code_bytes(format != kKvQ4, layer.width), values = code_bytes(format == kKvQ8, layer.width);
  const unsigned scales = scale_bytes(layer.width);
  const unsigned long long first = format == kKvQ8   ? layer.quantised[0]
                                   : format == kKvQ4 ? layer.quantised[1]
                                                     : layer.quantised[2];
  const Byte* at = page + first + head * static_cast<unsigned long long>(keys + values + 2 * scales);
  return {at, at + keys, at + keys + scales, at + keys + scales + values};
}

// Keys [256, A] of one head in a plain page; its values lie kv_heads heads further.
DEVICE Byte* plain_keys(Byte* page, const KvLayer& layer, unsigned format, unsigned head) {
  const unsigned element = format == kKvF32 ? 4 : 2;
  return page + layer.plain[format == kKvF32 ? 0 : 1] +
         static_cast<unsigned long long>(head) * kPageKeys * layer.width * element;
}
DEVICE Byte* plain_values(Byte* page, const KvLayer& layer, unsigned format, unsigned head) {
  return plain_keys(page, layer, format, layer.kv_heads + head);
}

// Of 32 neighbouring elements of a head, element `a` is this row of tile a % 4 / 2: a lane's rows of both tiles are
// four elements side by side.
DEVICE unsigned value_row(unsigned a) { return a / 4 + 8 * (a % 2); }

}  // namespace qwen35::cuda
