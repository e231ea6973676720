// Scalar twins of hadamard, append, attend_split, softmax_step, scale_row, attend_combine and attend_finish.
//
// A page, per layer: keys [G][256 / 16][A][16], sixteen tokens side by side, so that the scores of sixteen keys are
// sums over A with no horizontal step; then values [G][256][A]. Elements are fp32 or fp16.
//
// The softmax runs over tiles of kKeyTile keys at fixed positions, in order; a query's result is a function of its own
// keys alone, whatever else shares the pass.
#include <cmath>
#include <cstring>
#include <limits>

#include "backend/backend.h"
#include "devices/cpu/kernels.h"
#include "devices/cpu/math.h"
#include "tensor/half.h"

namespace qwen35::cpu {
namespace {

struct F32 {
  using Element = float;
  static float load(Element e) noexcept { return e; }
  static Element store(float x) noexcept { return x; }
};

struct F16 {
  using Element = std::uint16_t;
  static float load(Element e) noexcept { return half_to_float(e); }
  static Element store(float x) noexcept { return float_to_half(x); }
};

// Where element (slot, a) of a head's keys and values lies in a page, in elements.
std::size_t key_index(std::size_t head, std::size_t width, std::size_t slot, std::size_t a) noexcept {
  return head * kPageSlots * width + slot / kKeyLanes * width * kKeyLanes + a * kKeyLanes + slot % kKeyLanes;
}

std::size_t value_index(std::size_t head, std::size_t heads, std::size_t width, std::size_t slot) noexcept {
  return (heads + head) * kPageSlots * width + slot * width;
}

template <class Format>
void append(std::byte* page, std::size_t slot, std::size_t kv_head, std::size_t kv_heads, std::size_t width,
            const float* key, const float* value) noexcept {
  auto* elements = reinterpret_cast<typename Format::Element*>(page);
  auto* values = elements + value_index(kv_head, kv_heads, width, slot);
  for (std::size_t a = 0; a < width; ++a) {
    elements[key_index(kv_head, width, slot, a)] = Format::store(key[a]);
    values[a] = Format::store(value[a]);
  }
}

float fold(float (&lane)[kKeyLanes]) noexcept {
  for (std::size_t half = kKeyLanes / 2; half > 0; half /= 2) {
    for (std::size_t l = 0; l < half; ++l) lane[l] += lane[l + half];
  }
  return lane[0];
}

// One query through the keys [first, end) of one tile: the step of the online softmax (Milakov & Gimelshein 2018).
template <class Format>
void attend_tile(const AttendArgs& args, std::size_t i, std::size_t first, std::size_t end) noexcept {
  const auto* page = reinterpret_cast<const typename Format::Element*>(args.pages[first / kPageSlots]);
  const float* query = args.queries[i];
  float* values = args.values + i * args.width;
  float score[kKeyTile];
  float m = args.m[i];
  for (std::size_t j = first; j < end; ++j) {
    const std::size_t at = key_index(args.kv_head, args.width, j % kPageSlots, 0);
    float sum = 0.0F;
    for (std::size_t a = 0; a < args.width; ++a) sum = std::fmaf(query[a], Format::load(page[at + a * kKeyLanes]), sum);
    score[j - first] = sum * args.scale;
    m = score[j - first] > m ? score[j - first] : m;
  }
  const float alpha = exp(args.m[i] - m);
  for (std::size_t a = 0; a < args.width; ++a) values[a] *= alpha;
  float lane[kKeyLanes] = {};
  for (std::size_t j = first; j < end; ++j) {
    const float p = exp(score[j - first] - m);
    const auto* value = page + value_index(args.kv_head, args.kv_heads, args.width, j % kPageSlots);
    for (std::size_t a = 0; a < args.width; ++a) values[a] = std::fmaf(p, Format::load(value[a]), values[a]);
    lane[j % kKeyLanes] += p;
  }
  args.sum[i] = std::fmaf(args.sum[i], alpha, fold(lane));
  args.m[i] = m;
}

template <class Format>
void attend_split(const AttendArgs& args) noexcept {
  for (std::size_t i = 0; i < args.count; ++i) {
    const std::size_t end = args.limits[i] < args.last ? args.limits[i] : args.last;
    if (args.first >= end) continue;
    // The lowest finite number, not -infinity: the first step's exp(lowest - m) is then 0, not NaN.
    args.m[i] = std::numeric_limits<float>::lowest();
    args.sum[i] = 0.0F;
    std::memset(args.values + i * args.width, 0, args.width * sizeof(float));
    for (std::size_t tile = args.first; tile < end; tile += kKeyTile) {
      attend_tile<Format>(args, i, tile, tile + kKeyTile < end ? tile + kKeyTile : end);
    }
  }
}

void hadamard(float* x, std::size_t width) noexcept {
  const std::size_t order = width & (~width + 1);
  const auto scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(order)));
  for (std::size_t group = 0; group < width; group += order) {
    for (std::size_t half = 1; half < order; half *= 2) {
      for (std::size_t i = group; i < group + order; i += 2 * half) {
        for (std::size_t j = i; j < i + half; ++j) {
          const float a = x[j], b = x[j + half];
          x[j] = a + b;
          x[j + half] = a - b;
        }
      }
    }
  }
  for (std::size_t i = 0; i < width; ++i) x[i] *= scale;
}

float softmax_step(float* score, std::size_t count, float scale, float* m, float* sum) noexcept {
  float most = *m;
  for (std::size_t j = 0; j < count; ++j) {
    score[j] *= scale;
    most = score[j] > most ? score[j] : most;
  }
  float lane[kKeyLanes] = {};
  for (std::size_t j = 0; j < count; ++j) {
    score[j] = exp(score[j] - most);
    lane[j % kKeyLanes] += score[j];
  }
  const float alpha = exp(*m - most);
  *sum = std::fmaf(*sum, alpha, fold(lane));
  *m = most;
  return alpha;
}

void scale_row(float* x, float factor, std::size_t width) noexcept {
  for (std::size_t a = 0; a < width; ++a) x[a] *= factor;
}

void attend_combine(float* m, float* sum, float* values, float later_m, float later_sum, const float* later_values,
                    std::size_t width) noexcept {
  const float both = later_m > *m ? later_m : *m;
  const float alpha = exp(*m - both), later_alpha = exp(later_m - both);
  for (std::size_t a = 0; a < width; ++a) values[a] = std::fmaf(later_values[a], later_alpha, values[a] * alpha);
  *sum = std::fmaf(later_sum, later_alpha, *sum * alpha);
  *m = both;
}

void attend_finish(float* out, const float* values, float sum, const float* gate, std::size_t width) noexcept {
  const float scale = 1.0F / sum;
  for (std::size_t a = 0; a < width; ++a) out[a] = values[a] * scale * sigmoid(gate[a]);
}

}  // namespace

void add_reference_attend(Table& table) noexcept {
  table.hadamard = hadamard;
  table.softmax_step = softmax_step;
  table.scale_row = scale_row;
  table.append[kKvF32] = append<F32>;
  table.append[kKvF16] = append<F16>;
  table.attend_split[kKvF32] = attend_split<F32>;
  table.attend_split[kKvF16] = attend_split<F16>;
  table.attend_combine = attend_combine;
  table.attend_finish = attend_finish;
}

}  // namespace qwen35::cpu
