// What the model needs of a device, and nothing else. Shapes use one alphabet:
//   T tokens (rows of the batch)  D hidden  F feed-forward width  V vocabulary
//   H query heads  G key/value heads  A attention head width
//   Hk / Hv delta key / value heads  Dk / Dv their widths  C = 2 Hk Dk + Hv Dv conv channels
//   E experts  K experts per token
// Every operation is batch-invariant: a row's result has the same bits whatever other rows, segments or threads
// share the call. That is what makes chunking, batching and caching invisible.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>

#include "backend/peak.h"
#include "backend/pools.h"
#include "backend/profile.h"
#include "backend/shape.h"
#include "backend/step.h"
#include "backend/top_k.h"
#include "base/mapping.h"
#include "tensor/device_ptr.h"
#include "tensor/tensor.h"

namespace qwen35 {

// A weight matrix in the device's own layout. rows() x cols(); for experts rows() counts E * rows of one expert.
class Weight {
 public:
  virtual ~Weight() = default;
  virtual std::size_t rows() const noexcept = 0;
  virtual std::size_t cols() const noexcept = 0;
  virtual std::size_t bytes() const noexcept = 0;  // of the device's memory
  // Names how its bytes lie. A device multiplies weights of the layout that it packs, and no others.
  virtual const char* layout() const noexcept { return ""; }
};

inline constexpr std::size_t kViewedRows = 32;  // rows of a weight that are seen apart begin at a multiple of these

// Zero-initialised device memory, 64-byte aligned.
class Buffer {
 public:
  virtual ~Buffer() = default;
  virtual DevicePtr<std::byte> data() noexcept = 0;
  virtual std::size_t bytes() const noexcept = 0;
};

struct Projection {
  Tensor out;  // [T, rows of w]
  const Weight* w;
};

// The expert that every token of a mixture passes through.
struct SharedExpert {
  const Weight* gate;  // [F, D]
  const Weight* up;    // [F, D]
  const Weight* down;  // [D, F]
};

// The experts of one layer.
struct ExpertWeights {
  const Weight* gate;   // [E F, D]; when `up` is null [E 2F, D], per expert F gate rows, then F up rows
  const Weight* up;     // [E F, D] or null
  const Weight* down;   // [E D, F]
  std::uint32_t count;  // E
  std::optional<SharedExpert> shared;
};

// Which experts each row goes to.
struct Routes {
  DevicePtr<std::int32_t> experts;  // [T K]
  DevicePtr<float> weights;         // [T K], of a row's experts together 1
  std::uint32_t top_k;              // K
  Tensor shared_gate{};             // [T, 1], before its sigmoid: what the shared expert counts. No rows: it counts 1
};

// What chooses experts.
struct RouterWeights {
  const Weight* router;       // [E, D]
  const Weight* shared_gate;  // [1, D] or null
};

// What the experts make of T rows.
struct ExpertActs {
  Tensor routed;  // [T K, F], row t's under t K to t K + K - 1
  Tensor shared;  // [T, F of the shared expert]; not read when there is none
};

// What gated_delta_net needs of a layer beside its projections.
struct DeltaParameters {
  DevicePtr<const float> conv;     // [C, conv_width]
  DevicePtr<const float> ssm_a;    // [Hv], -exp(A_log)
  DevicePtr<const float> dt_bias;  // [Hv]
  DevicePtr<const float> norm;     // [Dv]
};

// The norms of one head's queries and keys, [A] each.
struct HeadNorms {
  DevicePtr<const float> query;
  DevicePtr<const float> key;
};

// Rotary embedding of the first 2 * pairs dimensions of a head, interleaved M-RoPE (docs/architecture.md 3); magnitude
// multiplies cos and sin (YaRN, docs/architecture.md 7).
struct Rope {
  DevicePtr<const double> inv_freq;  // [pairs]
  std::uint32_t pairs;
  std::array<std::uint32_t, 3> sections;  // how many pairs turn by time, height and width
  float magnitude;

  // The part of a position that turns a pair. They take turns while their section lasts; what is left turns by time.
  constexpr std::uint32_t axis(std::uint32_t pair) const noexcept {
    return pair < 3 * sections[pair % 3] ? pair % 3 : 0;
  }
};

// Sees the inputs of products before they are computed, while the device is its caller's.
class ProductObserver {
 public:
  virtual ~ProductObserver() = default;
  // Every row of x goes through each of `weights`.
  virtual void see(Tensor x, std::span<const Weight* const> weights) = 0;
  // Row i of x [T K, F] goes through the matrix `down` of expert routes.experts[i], and counts routes.weights[i].
  virtual void see_routed(Tensor x, const ExpertWeights& experts, const Routes& routes) = 0;
};

// Called with bytes that nobody will read again.
using Consumed = std::function<void(const std::byte* data, std::size_t bytes)>;

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
  // The same for a table of which embed() reads a few rows and nothing else anything: it may stay in the file that
  // `mapping` is of (null: source is not mapped), and is not consumed then.
  virtual std::unique_ptr<Weight> pack_table(const MatrixView& source, std::shared_ptr<const Mapping> /*mapping*/,
                                             const Consumed& consumed) {
    return pack(source, 1, consumed);
  }
  // Rows [first, first + rows) of a matrix that was packed in one group, in the memory of `w`, which has to live
  // longer. `first` is a multiple of kViewedRows.
  virtual std::unique_ptr<Weight> view(const Weight& w, std::size_t first, std::size_t rows) const = 0;
  virtual std::unique_ptr<Buffer> allocate(std::size_t bytes) = 0;
  // Pools of this device, which must not outlive it. kv_pool throws InputError when heads of this shape cannot be kept
  // in this format.
  virtual std::unique_ptr<KvPool> kv_pool(const KvSpec& spec) = 0;
  virtual std::unique_ptr<StatePool> state_pool(const StateSpec& spec) = 0;
  // Version of what the bytes of a slot and a page mean on this device; bytes of another must not be uploaded.
  virtual std::uint32_t state_layout() const noexcept = 0;
  virtual void copy(DevicePtr<std::byte> to, DevicePtr<const std::byte> from, std::size_t bytes) = 0;
  virtual void upload(DevicePtr<std::byte> to, const std::byte* from, std::size_t bytes) = 0;
  virtual void download(std::byte* to, DevicePtr<const std::byte> from, std::size_t bytes) = 0;  // waits

  // ---- a pass ------------------------------------------------------------------------------------------------------
  // Takes the memory that a pass over `step` needs in a model of this shape, so that run() allocates nothing; what was
  // taken before is used again. Throws OutOfMemory, and InputError as run() does: nothing has been computed then.
  void reserve(const ModelShape& model, const Step& step);

  // Calls `pass` with `step` as the current step, which embed, gated_delta_net, norm_rope_append, attend, take_rows
  // and previous_rows read; the other operations may be called outside of a pass too. A device may record what the pass
  // enqueues and replay it for a later step of the same sizes, so it depends on nothing else. Throws InputError for a
  // step that is not consistent, or names pages or slots that are not there.
  void run(const Step& step, const std::function<void()>& pass);

  // ---- operations; each may only enqueue, and throws InputError for shapes that do not fit ------------------------
  // out[t] = table[tokens[t]], and the values of an input row. table [V, D].
  void embed(Tensor out, const Weight& table);

  // out = x / sqrt(mean(x^2) + eps) * weight, row by row. weight [cols]. Zhang & Sennrich 2019.
  void rms_norm(Tensor out, Tensor x, DevicePtr<const float> weight, float eps);

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
  // Networks), docs/architecture.md 2.2 to 2.8. out, z [T, Hv Dv], qkv [T, C] = [q | k | v], a and b [T, Hv].
  void gated_delta_net(Tensor out, Tensor qkv, Tensor z, Tensor a, Tensor b, const DeltaParameters& parameters,
                       const DeltaShape& shape, float eps, std::uint32_t layer);

  // Per head: q and k <- rope(rms_norm(.)); then k and v are appended to the pages. q_gate [T, H * 2A] holds
  // [query | gate] per head; only the query half is touched, and without rows keys and values alone are appended.
  // k, v [T, G A]. docs/architecture.md 3. In a quantised format q, k and v are then rotated, and pages that the
  // segment fills are quantised.
  void norm_rope_append(Tensor q_gate, Tensor k, Tensor v, const HeadNorms& norms, float eps, const Rope& rope,
                        const AttentionShape& shape, std::uint32_t layer);

  // out = softmax(q k^T / sqrt(A)) v * sigmoid(gate) over positions [0, the row's own]. out [T, H A]. Uses the queries
  // up, with the k and v of a norm_rope_append just before it: what these tensors hold afterwards is not defined.
  void attend(Tensor out, Tensor q_gate, const AttentionShape& shape, std::uint32_t layer);

  // logits = h router^T and, with a gate for the shared expert, out.shared_gate = h shared_gate^T; then the top K of
  // softmax(logits) per row, ties to the lower index, weights renormalised to sum 1. logits [T, E].
  // docs/architecture.md 4.
  void route(const Routes& out, Tensor logits, Tensor h, const RouterWeights& weights);

  // out.routed[t * K + i] = silu(h[t] gate_e^T) * (h[t] up_e^T) with e = routes.experts[t * K + i], and out.shared =
  // silu(h gate^T) * (h up^T) * sigmoid(routes.shared_gate) with the shared expert: in one call, so that h is rounded
  // once and all experts are one list of work.
  void moe_gather(const ExpertActs& out, Tensor h, const ExpertWeights& experts, const Routes& routes);

  // x[t] += sum_i routes.weights[t * K + i] * h.routed[t * K + i] down_e^T; then x += h.shared down^T with the shared
  // expert.
  void moe_combine(Tensor x, const ExpertActs& h, const ExpertWeights& experts, const Routes& routes);

  // out[i] = x[outputs[i]].
  void take_rows(Tensor out, Tensor x);

  // out[t] = x of the token before t: the row above or, for the first row of a segment, the hidden row kept with its
  // recurrent state, zeros at position 0. The state then keeps the segment's last rows, as many as
  // hidden_rows() says. out, x [T, D]. docs/architecture.md 5.
  void previous_rows(Tensor out, Tensor x);

  // out[t] = the hidden row that the recurrent state keeps of the row's cache index, of which there are the last
  // hidden_rows(). out [T, D].
  void kept_rows(Tensor out);

  // The best tokens of a row of logits [1, V] under `edits`: as many as `out` has room for, at most kMostTopK, the most
  // likely first, ties to the lower id. Returns how many there are; all others have the logit -inf or are not allowed.
  // log_sum (null: not wanted) gets log(sum(exp(logits))) of the row before edits, -inf where no logit is above that.
  // Overwrites the row, unless there are no edits; waits. Throws InputError naming a logit that is NaN or +inf.
  std::size_t top_k(std::span<Candidate> out, Tensor logits, const LogitEdits& edits, double* log_sum = nullptr);

  // ---- what the device can do at most; outside of a pass, takes a moment --------------------------------------------
  // Reads a buffer of `bytes`, or a little more, from end to end, the fastest of so many runs: the rate of the memory
  // where the buffer is well above the last cache. Throws OutOfMemory.
  virtual MeasuredRate read_memory(std::size_t bytes, unsigned repetitions) = 0;
  // 8-bit multiplications and additions, counted apart, out of registers alone, with the instructions of the kernels.
  virtual MeasuredRate multiply_int8(unsigned repetitions) = 0;

  // Waits for everything enqueued.
  virtual void synchronize() = 0;

  virtual const char* weight_layout() const noexcept { return ""; }              // Weight::layout of what pack() makes
  virtual const char* table_layout() const noexcept { return weight_layout(); }  // and pack_table(); embed() takes both

  // Kernels that were started one behind the other since the device was opened; 0 where work is not cut so.
  virtual std::uint64_t launches() const noexcept { return 0; }

  // What operations keep from call to call now; Footprint::work is the most.
  virtual std::size_t work_bytes() const noexcept { return 0; }

  virtual const char* name() const noexcept = 0;  // "cpu-avx512"
  virtual DeviceLimits limits() const noexcept = 0;
  // Total time that operations waited for worker threads.
  virtual std::chrono::nanoseconds waited() const noexcept { return {}; }

  // Times every operation from now on, each until its work is done; products with `head` alone are counted apart.
  void keep_profile(const Weight* head);
  Profile* profile() noexcept { return profile_.get(); }  // null when none is kept

  // From now on; null ends it.
  void show_products_to(ProductObserver* observer) noexcept { observer_ = observer; }

 private:
  virtual void do_reserve(const ModelShape& model, const Step& step) = 0;
  virtual void do_run(const Step& step, const std::function<void()>& pass) = 0;
  virtual void do_embed(Tensor out, const Weight& table) = 0;
  virtual void do_rms_norm(Tensor out, Tensor x, DevicePtr<const float> weight, float eps) = 0;
  virtual void do_matmul(Tensor x, std::span<const Projection> projections) = 0;
  virtual void do_matmul_add(Tensor x, Tensor h, const Weight& w) = 0;
  virtual void do_swiglu(Tensor out, Tensor h, const Weight& gate, const Weight& up) = 0;
  virtual void do_gated_delta_net(Tensor out, Tensor qkv, Tensor z, Tensor a, Tensor b,
                                  const DeltaParameters& parameters, const DeltaShape& shape, float eps,
                                  std::uint32_t layer) = 0;
  virtual void do_norm_rope_append(Tensor q_gate, Tensor k, Tensor v, const HeadNorms& norms, float eps,
                                   const Rope& rope, const AttentionShape& shape, std::uint32_t layer) = 0;
  virtual void do_attend(Tensor out, Tensor q_gate, const AttentionShape& shape, std::uint32_t layer) = 0;
  virtual void do_route(const Routes& out, Tensor logits, Tensor h, const RouterWeights& weights) = 0;
  virtual void do_moe_gather(const ExpertActs& out, Tensor h, const ExpertWeights& experts, const Routes& routes) = 0;
  virtual void do_moe_combine(Tensor x, const ExpertActs& h, const ExpertWeights& experts, const Routes& routes) = 0;
  virtual void do_take_rows(Tensor out, Tensor x) = 0;
  virtual void do_previous_rows(Tensor out, Tensor x) = 0;
  virtual void do_kept_rows(Tensor out) = 0;
  virtual std::size_t do_top_k(std::span<Candidate> out, Tensor logits, const LogitEdits& edits, double* log_sum) = 0;

  void check_layout(const char* operation, std::initializer_list<const Weight*> weights) const;
  void check_layout(const char* operation, const ExpertWeights& experts) const;
  template <class Call>
  void timed(Operation operation, Call&& call);

  const Step& step() const;  // throws Error outside of a pass

  void show(Tensor x, std::initializer_list<const Weight*> weights) const;

  const Step* step_ = nullptr;  // of the pass that runs
  ProductObserver* observer_ = nullptr;
  std::unique_ptr<Profile> profile_;
  const Weight* head_ = nullptr;
};

}  // namespace qwen35
