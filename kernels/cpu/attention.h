#pragma once

#include <cstdint>
#include <vector>

#include "kernels/backend.h"

namespace mea::cpu {

// This many virtual heads are composed in one pass over their components: items should have a
// multiple of it.
inline constexpr int kComposeUnit = 4;

// How slabs lie in memory. Keys: tiles of 16 tokens, [page_size / 16][head_dim][16 tokens], so that
// the scores of 16 tokens are vertical multiply-adds without horizontal sums. Values:
// [page_size][head_dim]. In BF16 two neighbouring rows of these (two elements of a key, two tokens'
// values) are interleaved, element by element: a vector load then widens by a shift and a mask. In
// 4 bits two elements of the same token share a byte, so that threads never write into the same
// one: neighbouring elements of a key, columns i and i + 16 of 32 of a value.
inline constexpr int kTileTokens = 16;
// Softmax rescaling happens once per block and partial results end at splits, both counted from
// position 0 of the sequence, so neither pages nor chunks nor threads change a rounding.
inline constexpr int kBlockTokens = 64;
inline constexpr int kSplitTokens = 512;

// Values are paired only if tiles of 16 columns fill head_dim.
inline bool PairsValues(DType dtype, int64_t head_dim) {
  return dtype == DType::kBf16 && head_dim % 16 == 0;
}

// Offsets of element i of a token in its slabs; in 4 bits of the byte that holds it.
inline int64_t KeyOffset(DType dtype, int64_t token, int64_t i, int64_t head_dim) {
  const int64_t tile = token / kTileTokens * kTileTokens * KvHeadElements(head_dim, dtype);
  const int64_t column = token % kTileTokens;
  if (dtype == DType::kI4) return tile + i / 2 * kTileTokens + column;
  if (dtype != DType::kBf16) return tile + i * kTileTokens + column;
  return tile + i / 2 * 2 * kTileTokens + 2 * column + i % 2;
}
inline int64_t ValueOffset(DType dtype, int64_t token, int64_t i, int64_t head_dim) {
  if (dtype == DType::kI4) return token * KvHeadElements(head_dim, dtype) + i / 32 * 16 + i % 16;
  if (!PairsValues(dtype, head_dim)) return token * head_dim + i;
  return token / 2 * 2 * head_dim + 2 * i + token % 2;
}

// The running softmax of one row over some tokens: maximum, sum and weighted values, as one record
// of floats [max, sum, 14 unused, values...].
inline constexpr int kRecordHeader = 16;
inline constexpr int64_t RoundUp(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }
inline int64_t RecordFloats(int64_t head_dim) { return kRecordHeader + RoundUp(head_dim, 16); }

// How the query rows of an op share the virtual heads that are read or composed from the cache.
struct HeadShape {
  int heads = 0;         // virtual heads
  int group = 0;         // query rows of each for a token
  int pseudo_heads = 1;  // P of interleaved attention: virtual head g is pseudo head g % P of keys
  int together = 1;      // heads that one item must hold
  int unit = 1;          // the number of heads of a decode item should be a multiple of it

  // By how many tokens the row's view ends before its own token: a pseudo key after the pseudo
  // query's place in the token is visible up to the previous token, and one token further back.
  int Lag(int head, int row) const { return row < head % pseudo_heads ? 1 : 0; }
  int max_lag() const { return pseudo_heads > 1 ? 1 : 0; }
};
HeadShape HeadShapeOf(const PagedAttentionArgs& args);
HeadShape HeadShapeOf(const InterleavedAttentionArgs& args);

// The source of each virtual head, for keys and for values. It is the component that the head
// equals, if its column of the mix is a single 1 among zeros (a unit column) or if nothing is
// mixed; otherwise kMixedHead. The head of a unit column is read in place, on every path;
// components under its zeros are not read.
inline constexpr int32_t kMixedHead = -1;
struct HeadSources {
  std::vector<int32_t> keys;    // [virtual heads]
  std::vector<int32_t> values;  // [virtual heads]

  void Assign(const PagedAttentionArgs& args, const HeadShape& shape);
};

// A piece of one attention op: some query tokens of one sequence, some virtual heads (each with its
// group of query heads), some splits of the cache.
struct AttentionItem {
  const HeadSources* sources;
  int seq;
  int token_begin, token_end;  // rows of q
  int head_begin, head_end;    // virtual heads
  int split_begin, split_end;
  // Null: the item holds all visible splits and writes the output. Otherwise it is one split and
  // leaves the record of (token, row) at partials + (token * token_stride + row) records, counted
  // from token_begin; row j of virtual head g is g * group + j, for PagedAttention the query head.
  float* partials;
  int64_t token_stride;
};

// The rows of one token of a sequence; the records of their splits are split_stride records apart.
struct MergeItem {
  int token;
  int num_splits;
  const float* partials;  // record of (split 0, row 0)
  int64_t split_stride;
};

// Floats of scratch memory that `merge` needs.
inline int64_t MergeFloats(int64_t head_dim) { return 2 * RecordFloats(head_dim); }

// The form of an op with arguments Args.
template <typename Args>
struct AttentionKernelsOf {
  int64_t (*scratch_floats)(const Args& args, const AttentionItem& item);
  void (*run)(const Args& args, const AttentionItem& item, float* scratch);
  void (*merge)(const Args& args, const MergeItem& item, float* scratch);
};
using AttentionKernels = AttentionKernelsOf<PagedAttentionArgs>;
using InterleavedAttentionKernels = AttentionKernelsOf<InterleavedAttentionArgs>;

// The kernels of the target that Highway has chosen. With `by_dots`, for processors with
// AVX512_BF16, those that multiply a BF16 cache by dot products of BF16 pairs.
AttentionKernels GetAttentionKernels(bool by_dots);
InterleavedAttentionKernels GetInterleavedAttentionKernels(bool by_dots);

}  // namespace mea::cpu
