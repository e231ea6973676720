// The argument of each kernel, by its name, and what host and kernel agree on beside it: threads of a block, most
// sizes. As views.h: plain types, without padding.
#pragma once

#include "devices/cuda/views.h"

#if defined(__GNUC__) && !defined(__CUDACC__)
#pragma GCC diagnostic push
#pragma GCC diagnostic error "-Wpadded"
#endif

namespace qwen35::cuda {

struct EmbedArgs {
  Rows out;
  WeightView table;
  StepView step;
};

struct QuantiseArgs {
  Rows x;
  QuantisedRows to;
};

struct RmsNormArgs {
  Rows out;
  Rows x;
  const float* weight;
  QuantisedRows quantised;  // of the results; codes null: not wanted
  float eps;
  unsigned padding;
};

// Threads of a block.
inline constexpr unsigned kWarp = 32;
inline constexpr unsigned kStrands = 8;  // the columns of a product are cut into as many
inline constexpr unsigned kMatmulThreads = kStrands * kWarp;
inline constexpr unsigned kGemmThreads = 256;
inline constexpr unsigned kSortThreads = 1024;
inline constexpr unsigned kQuantiseThreads = 256;
inline constexpr unsigned kNormThreads = 256;
inline constexpr unsigned kRowThreads = 256;

inline constexpr unsigned kFewRows = 8;  // the most rows that one reading of a panel is multiplied with (matmul.cuh)

inline constexpr unsigned kMostProducts = 4;  // of one input: qkv, z, a and b of a DeltaNet layer

struct Product {
  WeightView w;
  float* out;
  unsigned long long out_stride;
};

// The norm of a product's input, taken by the product's own kernel: every block of threads takes it, the first one
// writes it down too. One row only.
struct NormArgs {
  const float* x;  // null: the input is as it stands
  const float* weight;
  float* out;
  QuantisedRows quantised;  // of out
  float eps;
  unsigned cols;
};

// The top K of a row of logits.
struct RouteArgs {
  Rows logits;     // [T, E]
  int* experts;    // [T K]
  float* weights;  // [T K]
  unsigned top_k;
  unsigned padding;
};

// Products of one input.
struct MatmulArgs {
  Product products[kMostProducts];
  unsigned count;
  unsigned adds;            // 1: to what is there
  Rows x;                   // read where the weights are floats
  QuantisedRows quantised;  // elsewhere
  NormArgs norm;            // of matmul_1
  RouteArgs route;          // of up to kFewRows rows, by the last block of threads to arrive; top_k 0: none
  unsigned* arrived;        // 0, and left so
  unsigned panels;          // of all products
  unsigned padding;
};

struct SwigluArgs {
  Rows out;
  WeightView gate;
  WeightView up;
  Rows x;
  QuantisedRows quantised;
  QuantisedRows to;  // of the results; codes null: not wanted
  Rows open;         // [T, 1], whose sigmoid the results are multiplied with; data null: not
  NormArgs norm;     // of swiglu_1
};

inline constexpr unsigned kGemmTokens = 64;  // rows that a block of threads multiplies together

// Any number of rows, one product.
struct GemmArgs {
  Product product;
  Rows x;
  QuantisedRows quantised;
  unsigned adds;
  unsigned padding;
};

inline constexpr unsigned kMostChosen = 16;  // K

// Where the panels of expert e begin in its matrix: per_expert e + offset.
struct ExpertPanels {
  unsigned per_expert;
  unsigned offset;
};

struct MoeGatherArgs {
  Rows routed;  // [T K, F]
  Rows shared;  // [T, F']
  WeightView gate;
  WeightView up;  // may be the same matrix
  ExpertPanels gate_panels;
  ExpertPanels up_panels;
  WeightView shared_gate;
  WeightView shared_up;
  Rows shared_open;  // as SwigluArgs::open
  const int* experts;
  unsigned top_k;
  unsigned has_shared;
  Rows x;
  QuantisedRows quantised;
  QuantisedRows to;  // of routed
  QuantisedRows shared_to;
};

struct MoeCombineArgs {
  Rows x;
  Rows routed;
  Rows shared;
  WeightView down;
  ExpertPanels down_panels;
  WeightView shared_down;
  const int* experts;
  const float* weights;
  unsigned top_k;
  unsigned has_shared;
  QuantisedRows quantised;  // of routed
  QuantisedRows shared_quantised;
};

// Rows by expert: `order` lists the pairs (row t, slot i), t K + i, expert after expert; a tile is up to kGemmTokens of
// one expert's.
inline constexpr unsigned kMostExperts = 1024;  // E
struct ExpertTile {
  int expert;
  unsigned first;  // in order
  unsigned count;
};
struct ExpertOrder {
  int* order;         // [T K]
  ExpertTile* tiles;  // [T K / kGemmTokens + E]
  unsigned* count;    // of tiles
};

struct MoeSortArgs {
  const int* experts;  // [T K]
  ExpertOrder to;
  unsigned pairs;
  unsigned expert_count;
};

struct GemmGatherArgs {
  Rows routed;  // [T K, F]
  WeightView gate;
  WeightView up;
  ExpertPanels gate_panels;
  ExpertPanels up_panels;
  QuantisedRows x;
  QuantisedRows to;
  ExpertOrder order;
  unsigned top_k;
  unsigned padding;
};

struct GemmCombineArgs {
  float* products;  // [T K, D]
  WeightView down;
  ExpertPanels down_panels;
  QuantisedRows routed;
  ExpertOrder order;
  unsigned cols;  // D
  unsigned padding;
};

struct MoeReduceArgs {
  Rows x;
  const float* products;
  const float* weights;
  unsigned top_k;
  unsigned padding;
};

// Of one layer's recurrent state in a slot, in bytes from the layer's start.
struct StateLayout {
  unsigned long long window;  // [window_rows, C] rows before the convolution
  unsigned long long state;   // [Hv, Dv / 8, ceil(Dk / 16), 32, 4]
  unsigned long long keys;    // [Hv, pending, Dk in whole sixteens]
  unsigned long long deltas;  // [Hv, pending, Dv]
  unsigned long long decays;  // [Hv, pending]
  unsigned long long bytes;
  unsigned window_rows;  // the taps and what may be taken back
  unsigned pending;      // rows that may be taken back
};

inline constexpr unsigned kStateLanes = 4;  // threads that share a column of S
inline constexpr unsigned kKeyGroup = 16;   // keys of which each of them has four
inline constexpr unsigned kMostKeyWidth = 128;
inline constexpr unsigned kMostValueWidth = 128;
inline constexpr unsigned kMostDeltaThreads = kStateLanes * kMostValueWidth;

struct DeltaHeads {
  unsigned key_heads;  // value head j reads key head j % Hk
  unsigned value_heads;
  unsigned key_width;
  unsigned value_width;
};

struct DeltaArgs {
  Rows out;                 // [T, Hv Dv]
  Rows qkv;                 // [T, C]
  Rows z;                   // [T, Hv Dv]
  Rows a;                   // [T, Hv]
  Rows b;                   // [T, Hv]
  const float* conv;        // [C, 4]
  const float* ssm_a;       // [Hv]
  const float* dt_bias;     // [Hv]
  const float* norm;        // [Dv]
  QuantisedRows quantised;  // of out
  StateLayout layout;
  StepView step;
  DeltaHeads shape;
  unsigned layer;
  float eps;
};

// ---- attention ------------------------------------------------------------------------------------------------------

inline constexpr unsigned kPageKeys = 256;  // kPageTokens of step.h

// Where one layer lies in pages of any format, in bytes from their start, and its heads.
struct KvLayer {
  unsigned long long plain[2];      // in fp32, in fp16
  unsigned long long quantised[3];  // in 8 bits, in 4, keys in 8 and values in 4
  unsigned kv_heads;                // G
  unsigned width;                   // A
};

// Keys and values as their products left them, and how heads are normed and turned (Rope of backend.h).
struct NewHeads {
  Rows k;  // [T, G A]
  Rows v;  // [T, G A]
  const float* q_norm;
  const float* k_norm;
  const double* inv_freq;  // [pairs]
  unsigned pairs;
  unsigned sections[3];
  float magnitude;
  float eps;
};

struct AppendArgs {
  Rows q_gate;  // [T, H * 2A]
  NewHeads heads;
  StepView step;
  KvLayer layer;
  unsigned query_heads;  // H; 0: keys and values alone
  unsigned padding;
};

inline constexpr unsigned kAppendWarps = 8;  // heads that a block of threads takes
inline constexpr unsigned kAppendThreads = kAppendWarps * kWarp;

struct QuantisePageArgs {
  StepView step;
  KvLayer layer;
  unsigned most_pages;  // that a segment can fill in this pass
  unsigned padding;
};

inline constexpr unsigned kAttendWarps = 8;
inline constexpr unsigned kAttendThreads = kAttendWarps * kWarp;
inline constexpr unsigned kTileQueries = 8;  // columns of a product of tensor cores
// A row's pages are cut into at most so many spans, by their number alone; the partial softmaxes of the spans are
// merged in order.
inline constexpr unsigned kMostSpans = 64;
// By the tiles of eight queries that a block of threads takes: a partial softmax, and the shared memory.
constexpr unsigned attend_part_floats(unsigned tiles) { return tiles * (8 * kAttendThreads + 2 * kTileQueries); }
constexpr unsigned attend_room_bytes(unsigned tiles) { return tiles * 15296 + 16; }
// Behind it, where heads are prepared (HeadRoom).
inline constexpr unsigned kHeadRoomBytes = (1 + kAppendWarps) * 1024;

// Blocks of threads beside each other in y take a span each; with one alone it takes all.
struct AttendArgs {
  Rows out;          // [T, H A]
  Rows q_gate;       // [T, H * 2A]
  NewHeads append;   // done by attend too, segments of one row; k.data null: it is done
  QuantisedRows to;  // of out; codes null: not wanted
  StepView step;
  KvLayer layer;
  float* parts;         // [tasks, grid y, attend_part_floats]
  unsigned* arrived;    // [tasks], zeros before and after
  unsigned group;       // H / G
  unsigned block_rows;  // a power of two, at most kTileQueries * tiles / group
  float scale;
  unsigned padding;
};

inline constexpr unsigned kByteOnes = 0x01010101u;
inline constexpr unsigned kPeakLoads = 4;
inline constexpr unsigned kPeakProducts = 8;  // of a round of multiply_int8, [16, 32] by [32, 8] each

// `counts` has one number for every warp of the grid, which adds to it.
struct ReadMemoryArgs {
  const Byte* from;
  unsigned long long* counts;  // of bytes, each of them 1
  unsigned rounds;             // of kPeakLoads loads of 16 bytes by every thread of the grid
  unsigned padding;
};
struct MultiplyInt8Args {
  unsigned long long* counts;  // of multiplications
  unsigned rounds;
  unsigned ones;  // kByteOnes
};

struct TakeRowsArgs {
  Rows out;
  Rows x;
  StepView step;
};

struct PreviousRowsArgs {
  Rows out;
  Rows x;
  StepView step;
  unsigned long long hidden_at;  // in a slot, bytes
  unsigned kept;                 // rows of the ring: that of position p is row p % kept
  unsigned padding;
};

struct KeptRowsArgs {
  Rows out;
  StepView step;
  unsigned long long hidden_at;  // as above
  unsigned kept;
  unsigned padding;
};

}  // namespace qwen35::cuda

#if defined(__GNUC__) && !defined(__CUDACC__)
#pragma GCC diagnostic pop
#endif
