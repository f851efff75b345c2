#pragma once

#include <cstdint>
#include <span>

#include "kernels/backend_limits.h"
#include "kernels/paged_kv.h"

namespace mea {

// What an op must at least move and compute: every input read once, every output written once, no
// work repeated. Together with a measured time it gives the share of the machine's limits, so no
// figure of a report is calculated by hand.
struct OpCost {
  int64_t bytes = 0;
  int64_t flops = 0;  // a multiply-add is two
  // Of these, in products with weights: a machine may have faster ones for them.
  int64_t product_flops = 0;

  OpCost& operator+=(const OpCost& other) {
    bytes += other.bytes;
    flops += other.flops;
    product_flops += other.product_flops;
    return *this;
  }
  friend OpCost operator+(OpCost a, const OpCost& b) { return a += b; }
  bool operator==(const OpCost&) const = default;
};

// Of one Backend op each; `compute` is the back end's compute dtype. Factors that are the same for
// all elements are not counted; `num_norms` is how many of an op's gains are there.
OpCost EmbedCost(int64_t num_tokens, int64_t hidden, DType table, DType compute);
OpCost RmsNormCost(int64_t num_tokens, int64_t hidden, int num_norms, DType compute);
OpCost AddRmsNormCost(int64_t num_tokens, int64_t hidden, int num_norms, DType compute);
OpCost MatMulCost(int64_t num_tokens, int64_t in, int64_t out, DType weights, DType compute);
OpCost GatedActivationCost(int64_t num_tokens, int64_t width, DType compute);  // by SiLU
// Reads the router and `num_reached` experts, whatever their number of rows.
OpCost MoeCost(int64_t num_tokens, int64_t hidden, const MoeShape& shape, int64_t num_reached,
               DType weights, DType compute);
// How many experts are reached by some token, on average and rounded, if all tokens choose evenly
// and independently.
int64_t ExpectedExperts(const MoeShape& shape, int64_t num_tokens);
OpCost SigmoidGateCost(int64_t num_tokens, int64_t width, DType compute);
OpCost MixHeadsCost(int64_t num_tokens, int64_t in_heads, int64_t out_heads, int64_t head_dim,
                    DType compute);
OpCost PrepareQueriesCost(int64_t num_tokens, int64_t q_heads, int64_t head_dim, DType compute);
OpCost AppendKvCost(int64_t num_tokens, const KvSpec& spec, DType compute);

// The attention of one layer, apart from its sequences.
struct AttentionShape {
  KvSpec kv;
  int q_heads = 0;
  int kv_heads = 0;  // virtual
  bool composed = false;
  int window = 0;
};
struct SequenceLengths {
  int64_t q_len = 0;
  int64_t kv_len = 0;
};

// Bytes: the visible cache once, queries and outputs. Flops: the cheaper of two equivalent forms
// for each sequence, where h' of the h virtual heads are components: a change of basis gives every
// mix this form, and `mea convert` writes it. With w = (h - h'_K) h'_K + (h - h'_V) h'_V, narrow
// (scores and values component by component) costs 2 * q_heads / h * (h'_K + h'_V + w) * d for each
// pair of query and visible token; expanded costs 2 * w * d for each token once and 4 * q_heads * d
// for each pair.
OpCost PagedAttentionCost(const AttentionShape& shape, std::span<const SequenceLengths> sequences,
                          DType compute);

// With P pseudo heads for each of shape.kv_heads = q_heads. Bytes: the visible cache once, P
// queries and outputs for each head. Flops: every pseudo query meets P pseudo keys of each visible
// token, and these are composed from the component heads once.
OpCost InterleavedAttentionCost(const AttentionShape& shape, int pseudo_heads,
                                std::span<const SequenceLengths> sequences, DType compute);

}  // namespace mea
