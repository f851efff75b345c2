#pragma once

#include <cstdint>
#include <span>

#include "kernels/cost.h"
#include "kernels/paged_kv.h"
#include "kernels/tensor.h"

// The ops between projections and attention's output.

namespace mea {

// Rotary embedding in the half-split convention of Hugging Face: element i rotates with element i
// + d/2.
struct ComputeRopeArgs {
  TensorView positions;           // [num_tokens] i32
  TensorView inv_freq;            // [head_dim / 2] f64; 0: a pair that stays as it is
  double attention_factor = 1.0;  // scale of the pairs that rotate: YaRN's and LongRoPE's
  // P: each token stands for P neighbouring ones, its row n * P + p for position P * positions[n] +
  // p
  int pseudo_heads = 1;
  // [num_tokens * P, head_dim] wide dtype: cos in the first half, sin in the second
  TensorView out;
};
void Check(const ComputeRopeArgs& args, ActivationDTypes dtypes);
OpCost Cost(const ComputeRopeArgs& args, ActivationDTypes dtypes);

// QK-norm (where gain is present) and rotation of the queries, in place.
struct PrepareQueriesArgs {
  TensorView q;     // [num_tokens, q_heads, head_dim]
  TensorView gain;  // [head_dim] f32, or absent
  float eps = 1e-6f;
  TensorView cos_sin;  // [num_tokens, head_dim]
};
void Check(const PrepareQueriesArgs& args, ActivationDTypes dtypes);
OpCost Cost(const PrepareQueriesArgs& args, ActivationDTypes dtypes);

// Everything between the K/V projections and the cache. With g = gain, y_c the component key c and
// rms(x) = sqrt(mean(x^2) + eps), what is stored is
//   without a gain:                RoPE(y_c)
//   with key_norm_heads == 0:      RoPE(g * y_c / rms(y_c)), plain QK-norm
//   with key_norm_heads == h:      RoPE(g * y_c), and r_j = 1 / rms(sum_c W[c,j] y_c)
// The last is QK-norm of the virtual keys, exactly: engine/README.md, "The mathematics".
// Values are stored as they come.
struct AppendKvArgs {
  TensorView k;        // [num_tokens, key_heads, head_dim]
  TensorView v;        // [num_tokens, value_heads, head_dim]
  TensorView slots;    // [num_tokens] i32: page * page_size + offset; negative: nothing is stored
  TensorView cos_sin;  // [num_tokens, head_dim]
  TensorView gain;     // [head_dim] f32, or absent
  float eps = 1e-6f;
  TensorView key_mix;  // [key_heads, kv_heads] f32; needed where key_norm_heads > 0
  PagedKvView kv;
};
void Check(const AppendKvArgs& args, ActivationDTypes dtypes);
OpCost Cost(const AppendKvArgs& args, ActivationDTypes dtypes);

// Both, for the same tokens: neither needs what the other does, so a device does them at once.
struct PrepareAndAppendArgs {
  PrepareQueriesArgs queries;
  AppendKvArgs kv;
};
void Check(const PrepareAndAppendArgs& args, ActivationDTypes dtypes);
OpCost Cost(const PrepareAndAppendArgs& args, ActivationDTypes dtypes);

// What all keys of a virtual head have in common and the cache leaves out: a vector b_g, rotated at
// token t as the token's key is. Angles add up, so those of all positions are given by few.
struct KeyBias {
  static constexpr int kStride = 64;

  TensorView heads;  // [kv_heads, head_dim] f32, b_g; absent: there is none, nor the others
  TensorView
      strides;  // [n, head_dim] wide: cos and sin of the positions 0, kStride, 2 kStride, ...
  TensorView offsets;  // [head_dim, kStride] wide: of those before kStride, with yarn's scale

  bool empty() const { return heads.empty(); }
};

// Causal attention of every query row over its sequence's cached tokens, its own included. With
// G(i) the virtual KV head of query head i:
//   S[i,t] = scale * r[t,G(i)] * sum_c W_K[c,G(i)] (q_i . K_c(t)) + scale * q_i . RoPE_t(b_G(i))
//   o_i    = sum_t softmax(S[i,:])[t] * sum_c W_V[c,G(i)] V_c(t)
// and, where head_norm_gain is present, o_i <- head_norm_gain[i] * o_i / rms(o_i).
// A row's result depends on nothing but its own sequence: not on the batch, the chunking or the
// page size.
struct PagedAttentionArgs {
  TensorView q;          // [num_tokens, q_heads, head_dim], prepared
  TensorView q_offsets;  // [num_seqs + 1] i32, prefix sums of query counts
  // [num_seqs] i32, cached tokens of each sequence, the new ones included; 0: the row fills the
  // batch up and comes out as zeros (only back ends with PaddedRows meet it)
  TensorView kv_lens;
  TensorView page_table;  // [num_seqs, max_pages] i32
  // q_offsets and kv_lens again, where the host can read them: a device sizes its launches by them.
  // In a batch of single rows nothing but the number of rows may count, see Backend::Run.
  std::span<const int32_t> host_q_offsets;
  std::span<const int32_t> host_kv_lens;
  PagedKvView kv;
  HeadMix mix;
  KeyBias key_bias;    // on the host alone, where there are no key norms
  int kv_heads = 0;    // virtual heads h; q_heads is a multiple of it
  int window = 0;      // token t is visible to position p when p - t < window; 0 = no window
  double scale = 1.0;  // double: 1 / sqrt(head_dim) in float alone would cost the reference 3e-8
  TensorView head_norm_gain;  // [q_heads, head_dim] f32, or absent
  float head_norm_eps = 1e-5f;
  TensorView out;  // [num_tokens, q_heads, head_dim]
};
void Check(const PagedAttentionArgs& args, ActivationDTypes dtypes);
OpCost Cost(const PagedAttentionArgs& args, ActivationDTypes dtypes);

// Attention of interleaved pseudo heads (IHA, arXiv 2602.21371) from a cache of component heads.
// Each of h heads has P pseudo heads; pseudo head p of token n stands at virtual position n * P +
// p, sees the positions up to its own and, where there is a window of W tokens, no more than the
// last W * P. With a_K, a_V the mixing tensors of keys and values and K_m(t), V_m(t) what is cached
// of token t, whose key is rotated by t * P:
//   S[jp, tr] = scale * sum_m a_K[m,j,r] <rotate(q_jp, -r), K_m(t)>
//   o_jp      = sum_tr softmax(S[jp,:])[tr] * sum_m a_V[m,j,r] V_m(t)
// Rotating the query back by r positions is rotating the key of pseudo head r forward: no pseudo
// head is ever stored.
struct InterleavedAttentionArgs {
  // As of PagedAttention, but: q and out are [num_tokens, P * h, head_dim], pseudo head p of head j
  // at p * h + j, queries rotated by n * P + p; mix.key and mix.value are a_K and a_V as [h, h *
  // P], column j * P + r; kv_heads is h = kv.spec.key_heads = kv.spec.value_heads; there are
  // neither key norms nor a head norm.
  PagedAttentionArgs paged;
  int pseudo_heads = 1;  // P
  TensorView rotations;  // [P, head_dim] wide dtype: cos and sin of r positions, r = 0..P-1
};
void Check(const InterleavedAttentionArgs& args, ActivationDTypes dtypes);
OpCost Cost(const InterleavedAttentionArgs& args, ActivationDTypes dtypes);

}  // namespace mea
