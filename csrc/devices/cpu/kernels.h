// The kernel table: every operation of the CPU as pure functions over rows or heads. Nothing here knows of threads or
// allocates. reference/ fills the whole table; avx2/, neon/ and their like replace the entries they do better.
//
// This header is included by files compiled for one instruction set, so it stays free of inline functions and of
// standard containers: an inline function compiled there could be the copy that the linker keeps for everybody.
#pragma once

#include <cstddef>
#include <cstdint>

#include "devices/cpu/matmul_kernels.h"

namespace qwen35::cpu {

inline constexpr std::size_t kConvTaps = 4;      // the family's short convolution
inline constexpr std::size_t kValueTile = 32;    // value columns of recurrent state kept together
inline constexpr std::size_t kDeltaSteps = 4;    // tokens per update of S, at positions divisible by it
inline constexpr std::size_t kPageSlots = 256;   // kPageTokens of step.h
inline constexpr std::size_t kKeyLanes = 16;     // tokens whose keys are interleaved in a page
inline constexpr std::size_t kKeyTile = 64;      // keys per step of the online softmax, aligned to absolute positions
inline constexpr std::size_t kKvSplit = 1024;    // keys per partial softmax; splits are merged in order of position
inline constexpr std::size_t kReadBlock = 4096;  // bytes; what is read to measure the memory is whole blocks
inline constexpr std::size_t kQueryBlock = 128;  // queries of one key/value head that share one pass over the keys
// Forms of a page that the kernels read element by element, as indices.
inline constexpr std::size_t kKvF32 = 0;
inline constexpr std::size_t kKvF16 = 1;
inline constexpr std::size_t kKvFormats = 2;

// conv_silu over `count` neighbouring channels of one segment. Row 0 of x follows rows [accepted, accepted + 3) of the
// window. The window is left with the 3 rows before row `certain` of x and every row from there on: all that the next
// call needs, whether it goes on behind the last row or takes back rows down to `certain`.
struct ConvArgs {
  const float* x;  // [rows, count], rows `stride` floats apart
  float* out;      // [rows, count], rows `out_stride` floats apart
  std::size_t rows;
  std::size_t stride;
  std::size_t out_stride;
  float* window;        // [3 + rows that may be taken back, count], rows `channels` floats apart
  const float* kernel;  // [count, 4]
  std::size_t channels;
  std::size_t count;
  std::size_t accepted;
  std::size_t certain;  // <= rows
};

// out = rms_norm(x, weight) * silu(z) for one head in several rows.
struct GatedNormArgs {
  float* out;      // rows `stride` floats apart
  const float* x;  // [rows, width]
  const float* z;  // rows `gate_stride` floats apart
  const float* weight;
  std::size_t rows;
  std::size_t width;
  std::size_t stride;
  std::size_t gate_stride;
  float eps;
};

// Token i of a chunk: S_i = decay S + sum_j kept[j] k_j d_j^T, S being the state at the chunk's start.
struct DeltaStep {
  float decay;               // of the chunk's tokens up to i, multiplied
  float beta;                // sigmoid(b)
  float kept[kDeltaSteps];   // j <= i: decay of the tokens after j, up to i
  float key[kDeltaSteps];    // j < i: kept[j] k_j . k_i
  float query[kDeltaSteps];  // j <= i: kept[j] k_j . q_i
};

// One value head's tile of kValueTile columns through the tokens of one segment. Row 0 of every array is the first
// token of the chunk that S stands before. Rows below `first` were computed by earlier calls and are certain: only
// their keys, deltas and steps are read, and S first takes up their whole chunks. Then S takes up every chunk that ends
// at or before row `certain`; rows behind a later chunk read `scratch`, S after that chunk, so that S itself never
// holds a row that may be taken back. deltas is left with d of the rows that S has not taken up.
struct DeltaArgs {
  float* state;           // [Dk, kValueTile], S
  float* scratch;         // likewise; not read on entry, may be null when all rows are certain
  float* deltas;          // [rows not taken up, at least kDeltaSteps; kValueTile]
  const float* query;     // [rows, Dk], unit length times Dk^-1/2
  const float* key;       // [rows, Dk], unit length
  const DeltaStep* step;  // [rows]
  const float* value;     // [rows, kValueTile], rows `value_stride` floats apart
  float* out;             // likewise; may be value
  std::size_t first;
  std::size_t certain;  // first <= certain <= rows
  std::size_t rows;
  std::size_t width;  // Dk
  std::size_t value_stride;
};

// Up to kQueryBlock queries of one key/value head against keys [first, last), within one split of kKvSplit.
// Query i sees the keys below limits[i]. Leaves, per query, the largest score, the sum of exp(score - m) and
// that weighted sum of values; a query that sees no key of the span is left alone.
struct AttendArgs {
  const float* const* queries;  // [count] pointers to [width]
  const std::size_t* limits;    // [count]
  std::size_t count;
  const std::byte* const* pages;  // the layer's pages; page p holds positions from p * 256
  std::size_t kv_head;
  std::size_t kv_heads;
  std::size_t width;
  std::size_t first;
  std::size_t last;
  float scale;
  float* m;       // [count]
  float* sum;     // [count]
  float* values;  // [count, width]
};

struct Table {
  MatmulTable matmul;

  // out = x / sqrt(mean(x^2) + eps) * weight for one row. out may be x.
  void (*rms_norm)(float* out, const float* x, const float* weight, std::size_t cols, float eps) noexcept;

  void (*gated_rms_norm)(const GatedNormArgs& args) noexcept;

  void (*conv_silu)(const ConvArgs& args) noexcept;

  // out = x * scale / sqrt(sum(x^2) + eps) for one head. out may be x.
  void (*l2_norm)(float* out, const float* x, std::size_t width, float scale, float eps) noexcept;
  // out[j] = x . rows[j], `count` rows of `width`.
  void (*delta_dots)(float* out, const float* x, const float* rows, std::size_t count, std::size_t width) noexcept;
  // a <- exp(ssm_a * softplus(a + dt_bias)), b <- sigmoid(b) for one value head in `count` rows.
  void (*delta_gates)(float* a, float* b, float ssm_a, float dt_bias, std::size_t count) noexcept;
  void (*gated_delta_rule)(const DeltaArgs& args) noexcept;

  // x <- rope(rms_norm(x, weight)) for one head: pairs (i, i + pairs), the rest passes through.
  void (*norm_rope)(float* x, const float* weight, std::size_t width, float eps, const float* cosine, const float* sine,
                    std::size_t pairs) noexcept;

  // x <- x H / sqrt(n) with H the Walsh-Hadamard matrix of order n, in groups of n columns, the largest power of two
  // that divides the width: orthogonal and its own inverse.
  void (*hadamard)(float* x, std::size_t width) noexcept;

  // One token's key and value of one head into slot `slot` of a page.
  void (*append[kKvFormats])(std::byte* page, std::size_t slot, std::size_t kv_head, std::size_t kv_heads,
                             std::size_t width, const float* key, const float* value) noexcept;

  void (*attend_split[kKvFormats])(const AttendArgs& args) noexcept;
  // A step of the online softmax over the next `count` scores, whole kKeyLanes: score <- exp(scale score - m),
  // with m and sum renewed. Returns the factor that brings what was summed before to the new m.
  float (*softmax_step)(float* score, std::size_t count, float scale, float* m, float* sum) noexcept;
  // x <- factor x.
  void (*scale_row)(float* x, float factor, std::size_t width) noexcept;
  // (m, sum, values) <- itself and another partial softmax over later keys.
  void (*attend_combine)(float* m, float* sum, float* values, float later_m, float later_sum, const float* later_values,
                         std::size_t width) noexcept;
  // out = values / sum * sigmoid(gate).
  void (*attend_finish)(float* out, const float* values, float sum, const float* gate, std::size_t width) noexcept;

  // Top `top_k` of one row of `count` logits.
  void (*route)(std::int32_t* experts, float* weights, const float* logits, std::size_t count,
                std::size_t top_k) noexcept;

  // h <- h * sigmoid(gate) for one row.
  void (*sigmoid_gate)(float* h, float gate, std::size_t cols) noexcept;

  // The limits that `qwen35 bench` compares speeds with. read_sum: the sum of whole blocks of kReadBlock bytes, read
  // with a prefetch distance of `ahead` bytes (0: the hardware's own). multiply_int8: `rounds` of the instructions of
  // 8-bit products, on registers; returns the number of 8-bit multiplications and additions. `sum`, modulo 2^32,
  // depends on all of them, so that no compiler leaves one out.
  std::uint64_t (*read_sum)(const std::byte* data, std::size_t bytes, std::size_t ahead) noexcept;
  std::uint64_t (*multiply_int8)(std::size_t rounds, std::uint32_t* sum) noexcept;
};

// One per file of kernels; each replaces its own entries. reference/ first.
void add_reference_norm(Table& table) noexcept;
void add_reference_conv(Table& table) noexcept;
void add_reference_gated_delta(Table& table) noexcept;
void add_reference_attend(Table& table) noexcept;
void add_reference_route(Table& table) noexcept;
void add_reference_peak(Table& table) noexcept;
void add_avx2_norm(Table& table) noexcept;
void add_avx2_conv(Table& table) noexcept;
void add_avx2_gated_delta(Table& table) noexcept;
void add_avx2_attend(Table& table) noexcept;
void add_avx2_peak(Table& table) noexcept;
void add_avxvnni_peak(Table& table) noexcept;
void add_avx512_norm(Table& table) noexcept;
void add_avx512_conv(Table& table) noexcept;
void add_avx512_gated_delta(Table& table) noexcept;
void add_avx512_attend(Table& table) noexcept;
void add_avx512_peak(Table& table) noexcept;
void add_amx_peak(Table& table) noexcept;
void add_neon_norm(Table& table) noexcept;
void add_neon_conv(Table& table) noexcept;
void add_neon_gated_delta(Table& table) noexcept;
void add_neon_attend(Table& table) noexcept;
void add_neon_peak(Table& table) noexcept;
void add_neon_i8mm_peak(Table& table) noexcept;

}  // namespace qwen35::cpu
