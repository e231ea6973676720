// As kernel_args.h, of the kernels that find likely tokens in a row of logits.
#pragma once

#if defined(__GNUC__) && !defined(__CUDACC__)
#pragma GCC diagnostic push
#pragma GCC diagnostic error "-Wpadded"
#endif

namespace qwen35::cuda {

inline constexpr unsigned kMaximaLogits = 64;
inline constexpr unsigned kMostLikelyTokens = 4096;  // that are listed; more are counted only

// A grammar's mask: bit i % 32 of word i / 32 allows token i.
struct TokenMask {
  const unsigned* words;  // null: every token is allowed
  unsigned long long count;
};

// Of kMaximaLogits neighbours, or of a row: sum exp(logit - largest), 0 where the largest is -inf.
struct BlockSum {
  float largest;
  float sum;
};
struct RowSum {
  double sum;
  float largest;
  unsigned padding;
};

struct BlockMaximaArgs {
  const float* logits;  // [V]
  TokenMask allowed;
  float* largest;  // [V / kMaximaLogits], of the allowed ones
  BlockSum* sums;  // the same of all; null: not wanted
  unsigned cols;   // V
  unsigned padding;
};

struct SumBlocksArgs {
  const BlockSum* sums;
  RowSum* out;
  unsigned long long count;
};

struct LikelyToken {
  float logit;
  unsigned id;
};

struct LikelyTokensArgs {
  const float* logits;  // [V]
  LikelyToken* list;    // [kMostLikelyTokens]
  unsigned* count;      // of tokens that belong in the list
  TokenMask allowed;
  const int* ids;
  float* named;  // logits of ids
  float least;
  unsigned cols;
  unsigned id_count;
  unsigned padding;
};

}  // namespace qwen35::cuda

#if defined(__GNUC__) && !defined(__CUDACC__)
#pragma GCC diagnostic pop
#endif
