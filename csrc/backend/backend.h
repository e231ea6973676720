// What the model needs of a device, and nothing else. Shapes use one alphabet:
//   T tokens (rows of the batch)  D hidden  F feed-forward width  V vocabulary
//   H query heads  G key/value heads  A attention head width
//   Hk / Hv delta key / value heads  Dk / Dv their widths  C = 2 Hk Dk + Hv Dv conv channels
//   E experts  K experts per token
// Every operation is batch-invariant: a row's result has the same bits whatever other rows, segments or threads
// share the call. That is what makes chunking, batching and caching invisible.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <span>

#include "backend/profile.h"
#include "tensor/tensor.h"

namespace qwen35 {

using Token = std::int32_t;

inline constexpr std::size_t kPageTokens = 256;

// How keys and values are kept. In the packed formats (8 bits, 4 bits, keys in 8 and values in 4) both are rotated by
// a Walsh-Hadamard transform over the head, and a page has two forms: open, fp16, while it is new, and packed.
enum class KvFormat : std::uint8_t { kF32, kF16, kQ8, kQ4, kK8V4 };

constexpr bool is_quantised(KvFormat format) noexcept { return format >= KvFormat::kQ8; }

// Which form of a page a query reads depends on their positions alone, so that no way of cutting a text into calls
// changes an answer: open the first page, the query's own and the one before it, packed all others.
inline constexpr std::size_t kFirstQuantisedPage = 1;
inline constexpr std::size_t kNewestFp16Pages = 2;
constexpr bool reads_quantised(std::size_t page, std::size_t own_page) noexcept {
  return page >= kFirstQuantisedPage && page + kNewestFp16Pages <= own_page;
}

// A weight matrix in the device's own layout. rows() x cols(); for experts rows() counts E * rows of one expert.
class Weight {
 public:
  virtual ~Weight() = default;
  virtual std::size_t rows() const noexcept = 0;
  virtual std::size_t cols() const noexcept = 0;
  virtual std::size_t bytes() const noexcept = 0;
};

// Zero-initialised device memory, 64-byte aligned. `data()` is an address in the device's memory.
class Buffer {
 public:
  virtual ~Buffer() = default;
  virtual std::byte* data() noexcept = 0;
  virtual std::size_t bytes() const noexcept = 0;
};

struct Projection {
  Tensor out;  // [T, rows of w]
  const Weight* w;
};

// The expert that every token of a mixture passes through. gate and up [F, D], down [D, F].
struct SharedExpert {
  Tensor act;  // [T, F]
  const Weight* gate;
  const Weight* up;
  const Weight* down;
};

struct AttentionShape {
  std::uint32_t heads;     // H
  std::uint32_t kv_heads;  // G
  std::uint32_t width;     // A
};

struct DeltaShape {
  std::uint32_t key_heads;    // Hk
  std::uint32_t value_heads;  // Hv; value head j reads key head j % Hk (GGUF order, specification 8.4)
  std::uint32_t key_width;    // Dk
  std::uint32_t value_width;  // Dv
  std::uint32_t conv_width;   // taps, 4
};

// Rows [first, first + count) of the batch are consecutive tokens of one sequence; the first stands at `position`.
struct Segment {
  std::size_t first;
  std::size_t count;
  std::size_t position;
};

// A segment and where one attention layer keeps its keys and values: pages[p] holds positions
// [p * kPageTokens, (p + 1) * kPageTokens), kv_page_bytes() bytes each, in the device's own layout. In a packed format
// these are the open forms, null where no row of the segment reads one, and packed[p] the packed forms,
// quantised_page_bytes() each, of every page from kFirstQuantisedPage on that is full after the segment.
struct KvSegment : Segment {
  std::span<std::byte* const> pages;
  KvFormat format;
  std::span<std::byte* const> packed = {};
};

// The recurrent state takes up tokens in chunks of so many, at positions that are multiples of it.
inline constexpr std::size_t kDeltaChunk = 4;

// A segment and one DeltaNet layer's recurrent state, read and advanced. The tokens of an unfinished chunk wait beside
// it, so that the same chunks are added in the same way however tokens are cut into calls.
struct DeltaSegment : Segment {
  float* window;  // [conv_width - 1, C] pre-convolution rows, oldest first
  float* state;   // [Hv, Dv / 32, Dk, 32]: tiles of 32 value columns, S[k][v] at the chunk's start (specification 2.6)
  float* keys;    // [Hk, kDeltaChunk, Dk]: k of the chunk's tokens, unit length
  float* deltas;  // [Hv, Dv / 32, kDeltaChunk, 32]: d of the chunk's tokens
  float* decays;  // [Hv, kDeltaChunk]: exp(g) of the chunk's tokens
};

// What gated_delta_net needs of a layer beside its projections.
struct DeltaParameters {
  const float* conv;     // [C, conv_width]
  const float* ssm_a;    // [Hv], -exp(A_log)
  const float* dt_bias;  // [Hv]
  const float* norm;     // [Dv]
};

// inv_freq[i] for the first 2 * pairs dimensions of a head; magnitude multiplies cos and sin (YaRN, specification 7).
struct Rope {
  std::span<const double> inv_freq;
  float magnitude;
};

// Called with bytes that nobody will read again.
using Consumed = std::function<void(const std::byte* data, std::size_t bytes)>;

// The shapes a device has kernels for.
struct DeviceLimits {
  std::uint32_t query_heads;  // the most query heads of one key/value head, H / G
  std::uint32_t head_unit;    // A is a multiple of this
  std::uint32_t conv_width;   // the one number of taps
  std::uint32_t value_unit;   // Dv is a multiple of this
};

// An operation checks its arguments (backend/check.h), is timed if a profile is kept, and then calls the device's own
// do_<operation>. Operations, allocation and copies are not thread-safe, and no device has a lock of its own: a Model
// gives its device to one caller at a time (Model::DeviceLock), and what has a device without a model uses it from one
// thread.
class Backend {
 public:
  virtual ~Backend() = default;

  // ---- memory -----------------------------------------------------------------------------------------------------
  // Packs an encoded matrix into the layout the kernels stream, reading the source once. `groups` equal parts of its
  // rows can then be addressed apart: E for the matrices of E experts, 2 E when each holds gate and up. Bytes of the
  // source that have been read go to `consumed`, piece by piece and from any thread. Throws FormatError when cols is
  // not a multiple of the type's block, or rows not one of `groups`.
  virtual std::unique_ptr<Weight> pack(const MatrixView& source, std::size_t groups, const Consumed& consumed) = 0;
  virtual std::unique_ptr<Buffer> allocate(std::size_t bytes) = 0;
  virtual std::size_t kv_page_bytes(KvFormat format, const AttentionShape& shape) const = 0;
  // Throws InputError when heads of this shape cannot be kept in this format.
  virtual std::size_t quantised_page_bytes(KvFormat format, const AttentionShape& shape) const = 0;
  virtual void copy(std::byte* to, const std::byte* from, std::size_t bytes) = 0;      // within the device
  virtual void upload(std::byte* to, const std::byte* from, std::size_t bytes) = 0;    // host to device
  virtual void download(std::byte* to, const std::byte* from, std::size_t bytes) = 0;  // device to host; waits

  // ---- operations; each may only enqueue, and throws InputError for shapes that do not fit ------------------------
  // out[t] = table[tokens[t]]. table [V, D].
  void embed(Tensor out, const Weight& table, std::span<const Token> tokens);

  // out = x / sqrt(mean(x^2) + eps) * weight, row by row. weight [cols]. Zhang & Sennrich 2019.
  void rms_norm(Tensor out, Tensor x, const float* weight, float eps);

  // out = x w^T for each projection. x [T, in], w [out, in]. Projections of one x come in one call, so that x is
  // rounded to 8 bits once. Weights stored as F32, F16 or BF16 are multiplied in fp32 without rounding x.
  void matmul(Tensor x, std::span<const Projection> projections);
  void matmul(Tensor x, std::initializer_list<Projection> projections) {
    matmul(x, std::span(projections.begin(), projections.size()));
  }

  // x += h w^T: the residual add rides on the block's last projection.
  void matmul_add(Tensor x, Tensor h, const Weight& w);

  // out = silu(h gate^T) * (h up^T). gate and up [F, D]. Shazeer 2020.
  void swiglu(Tensor out, Tensor h, const Weight& gate, const Weight& up);

  // All of a Gated DeltaNet layer between its projections. qkv <- silu(causal depthwise convolution over [window;
  // qkv]), tap conv_width - 1 on the current token; window <- the last rows before it. Then per value head: q, k scaled
  // to unit length, q by Dk^-1/2; decay = exp(ssm_a * softplus(a + dt_bias)), beta = sigmoid(b); S <- decay S; S <- S +
  // k d^T with d = beta (v - S^T k); o = S^T q; out = rms_norm(o, norm) * silu(z). Yang et al. 2024 (Gated Delta
  // Networks), specification 2.2 to 2.8. out, z [T, Hv Dv], qkv [T, C] = [q | k | v], a and b [T, Hv].
  void gated_delta_net(Tensor out, Tensor qkv, Tensor z, Tensor a, Tensor b, const DeltaParameters& parameters,
                       const DeltaShape& shape, float eps, std::span<const DeltaSegment> segments);

  // Per head: q and k <- rope(rms_norm(.)); then k and v are appended to the pages. q_gate [T, H * 2A] holds
  // [query | gate] per head; only the query half is touched. k, v [T, G A]. Specification 3. In a packed format q, k
  // and v are then rotated, and pages that the segment fills are packed.
  void norm_rope_append(Tensor q_gate, Tensor k, Tensor v, const float* q_norm, const float* k_norm, float eps,
                        const Rope& rope, const AttentionShape& shape, std::span<const KvSegment> segments);

  // out = softmax(q k^T / sqrt(A)) v * sigmoid(gate) over positions [0, the row's own]. out [T, H A].
  void attend(Tensor out, Tensor q_gate, const AttentionShape& shape, std::span<const KvSegment> segments);

  // Top K of softmax(logits) per row, ties to the lower index, weights renormalised to sum 1. logits [T, E];
  // experts and weights hold T * K entries. Specification 4.
  void route(std::int32_t* experts, float* weights, Tensor logits, std::uint32_t top_k);

  // out[t * K + i] = silu(h[t] gate_e^T) * (h[t] up_e^T) with e = experts[t * K + i]. gate, up [E F, D]. When `up` is
  // null, gate holds both: per expert F gate rows, then F up rows. Unless `shared` is null its act becomes
  // silu(h gate^T) * (h up^T) in the same call, so that h is rounded once and all experts are one list of work.
  void moe_gather(Tensor out, Tensor h, const Weight& gate, const Weight* up, const std::int32_t* experts,
                  std::uint32_t top_k, std::uint32_t expert_count, const SharedExpert* shared);

  // x[t] += sum_i weights[t * K + i] * h[t * K + i] down_e^T; then, unless `shared` is null, x += its act down^T.
  // down [E D, F].
  void moe_combine(Tensor x, Tensor h, const Weight& down, const std::int32_t* experts, const float* weights,
                   std::uint32_t top_k, std::uint32_t expert_count, const SharedExpert* shared);

  // h <- h * sigmoid(gate), gate [T, 1]: the shared expert behind its own gate.
  void sigmoid_gate(Tensor h, Tensor gate);

  // out[i] = x[rows[i]]: the rows that want logits.
  void take_rows(Tensor out, Tensor x, std::span<const std::uint32_t> rows);

  // Waits for everything enqueued.
  virtual void synchronize() = 0;

  virtual const char* name() const noexcept = 0;  // "cpu-avx512"
  virtual DeviceLimits limits() const noexcept = 0;
  // Total time that operations waited for worker threads.
  virtual std::chrono::nanoseconds waited() const noexcept { return {}; }

  // Times every operation from now on, each until its work is done; products with `head` alone are counted apart.
  void keep_profile(const Weight* head);
  Profile* profile() noexcept { return profile_.get(); }  // null when none is kept

 private:
  virtual void do_embed(Tensor out, const Weight& table, std::span<const Token> tokens) = 0;
  virtual void do_rms_norm(Tensor out, Tensor x, const float* weight, float eps) = 0;
  virtual void do_matmul(Tensor x, std::span<const Projection> projections) = 0;
  virtual void do_matmul_add(Tensor x, Tensor h, const Weight& w) = 0;
  virtual void do_swiglu(Tensor out, Tensor h, const Weight& gate, const Weight& up) = 0;
  virtual void do_gated_delta_net(Tensor out, Tensor qkv, Tensor z, Tensor a, Tensor b,
                                  const DeltaParameters& parameters, const DeltaShape& shape, float eps,
                                  std::span<const DeltaSegment> segments) = 0;
  virtual void do_norm_rope_append(Tensor q_gate, Tensor k, Tensor v, const float* q_norm, const float* k_norm,
                                   float eps, const Rope& rope, const AttentionShape& shape,
                                   std::span<const KvSegment> segments) = 0;
  virtual void do_attend(Tensor out, Tensor q_gate, const AttentionShape& shape,
                         std::span<const KvSegment> segments) = 0;
  virtual void do_route(std::int32_t* experts, float* weights, Tensor logits, std::uint32_t top_k) = 0;
  virtual void do_moe_gather(Tensor out, Tensor h, const Weight& gate, const Weight* up, const std::int32_t* experts,
                             std::uint32_t top_k, std::uint32_t expert_count, const SharedExpert* shared) = 0;
  virtual void do_moe_combine(Tensor x, Tensor h, const Weight& down, const std::int32_t* experts, const float* weights,
                              std::uint32_t top_k, std::uint32_t expert_count, const SharedExpert* shared) = 0;
  virtual void do_sigmoid_gate(Tensor h, Tensor gate) = 0;
  virtual void do_take_rows(Tensor out, Tensor x, std::span<const std::uint32_t> rows) = 0;

  template <class Call>
  void timed(Operation operation, Call&& call);

  std::unique_ptr<Profile> profile_;
  const Weight* head_ = nullptr;
};

}  // namespace qwen35
