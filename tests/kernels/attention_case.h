#pragma once

#include <vector>

#include "tests/kernels/op_support.h"

namespace mea {

// One attention layer with random contents, described independently of any back end.
struct AttentionCase {
  int q_heads = 4;
  int kv_heads = 4;   // virtual
  int key_heads = 4;  // components
  int value_heads = 4;
  int head_dim = 64;
  KvDTypes dtype = DType::kF32;  // of the cache
  DType inputs = DType::kF32;    // what queries, keys and values are rounded to at first
  bool key_mix = false;          // a random mix; needed where key_heads != kv_heads
  bool value_mix = false;
  bool key_norms = false;
  bool head_norm = false;
  bool key_bias = false;  // a large one, beside keys of order one
  int window = 0;
  int pseudo_heads = 0;  // P of InterleavedAttention: q_heads = P * h, h = kv_heads = h'_K = h'_V
  int page_size = 16;
  uint64_t seed = 1;
  struct Sequence {
    int kv_len;
    int q_len;

    bool operator==(const Sequence&) const = default;
  };
  std::vector<Sequence> sequences;

  bool operator==(const AttentionCase&) const = default;
};

// The contents of a case: the same for every back end, page size and order of work.
class AttentionData {
 public:
  explicit AttentionData(const AttentionCase& c);

  const AttentionCase& spec() const { return case_; }
  HeadMix mix() const { return {.key = key_mix_.view(), .value = value_mix_.view()}; }

  // Makes every key and value of a sequence, all of them visible, that number.
  void FillSequence(int seq, float value);
  // Replaces keys and values by what a cache in 4 bits keeps of them.
  void RoundToInt4();

  // Appends all tokens of all sequences to a poisoned cache of scattered pages and attends with the
  // last q_len tokens of each. `chunk` > 0 feeds the queries of each sequence that many at a time.
  // Returns [sum of q_len, q_heads, head_dim] in the back end's own dtype.
  Tensor Run(Backend& backend, int chunk = 0) const;

 private:
  void RunChunk(Backend& backend, const PagedKvView& kv, TensorView page_table,
                const std::vector<int>& done, const std::vector<int>& take, TensorView out) const;
  int64_t NumTokens() const;
  // Angles of `count` positions, each `step` behind the one before.
  Tensor Angles(Backend& backend, int count, int step) const;

  AttentionCase case_;
  Tensor k_, v_;  // [all tokens, heads, head_dim]
  Tensor q_;      // [query tokens, q_heads, head_dim]
  Tensor key_mix_, value_mix_, head_norm_gain_, key_bias_;
};

}  // namespace mea
