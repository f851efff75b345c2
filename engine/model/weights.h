#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <unordered_map>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/checkpoint/checkpoint.h"
#include "kernels/backend.h"
#include "kernels/paged_kv.h"
#include "kernels/tensor.h"

namespace mea {

// One layer as the forward pass wants it. Matrices are [out, in] in their storage dtype (or the
// one asked for); vectors and mixes are f32. d = head_dim, H = q_heads, h = kv_heads.
struct LayerWeights {
  TensorView input_norm;  // [hidden]

  TensorView q_proj;          // [H * d, hidden]
  TensorView k_proj;          // [h'_K * d, hidden]
  TensorView v_proj;          // [h'_V * d, hidden]
  TensorView o_proj;          // [hidden, H * d]
  TensorView q_bias;          // [H * d], or absent
  TensorView k_bias;          // [h'_K * d], or absent
  TensorView v_bias;          // [h'_V * d], or absent
  TensorView o_bias;          // [hidden], or absent
  TensorView q_norm;          // [d], or absent
  TensorView k_norm;          // [d], or absent
  HeadMix mix;                // key [h'_K, h], value [h'_V, h]; absent = identity
  TensorView head_norm_gain;  // [H, d], or absent; a gain shared by the heads is repeated

  // KHA of values: v <- 2 (v up^T * sigmoid(v gate^T)) down^T for each head.
  TensorView knock_v_up, knock_v_gate, knock_v_down;  // [d, d], or absent

  // IHA, in layers with P pseudo heads for each of h = H heads. mix is [h, h * P] there: pseudo
  // head p of head j is sum_m mix[m, j * P + p] of head m. Queries and outputs lie by pseudo head
  // first.
  TensorView query_mix;  // [h, P * h], column p * h + j; or absent
  TensorView collapse;   // [P * h, h]: R transposed, row p * h + j; or absent

  TensorView post_attention_norm;  // [hidden]

  // A dense layer's, or absent:
  TensorView gate_proj;  // [ffn, hidden]
  TensorView up_proj;    // [ffn, hidden]
  TensorView down_proj;  // [hidden, ffn]
  TensorView gate_bias;  // [ffn], or absent
  TensorView up_bias;    // [ffn], or absent
  TensorView down_bias;  // [hidden], or absent
  // A layer's with experts, or absent:
  TensorView router;            // [num_experts, hidden]
  std::vector<Expert> experts;  // [num_experts]
};

// Every parameter of a model in host memory. Views look into `storage`, which keeps the mapped
// checkpoint alive. Immutable after loading, so any thread may read it.
struct ModelWeights {
  TensorView embedding;  // [vocab, hidden]
  std::vector<LayerWeights> layers;
  TensorView final_norm;  // [hidden]
  TensorView lm_head;     // [vocab, hidden]; the embedding itself where they are tied

  std::vector<Tensor> storage;
  int64_t num_bytes = 0;     // of everything above
  int64_t mapped_bytes = 0;  // the part that is read straight from the checkpoint's pages

  // The checkpoint's tensor behind views that nobody has read yet, by their data: whoever copies
  // them refuses what is not finite.
  std::unordered_map<const void*, const StoredTensor*> unchecked;
};

struct LoadOptions {
  // f32, bf16, f16: convert every matrix; int8: quantise all but routers; absent: keep.
  std::optional<DType> weight_dtype;
  bool prefault = true;  // read mapped pages now, so that the first request does not
  // Whether matrices that hold an infinity or NaN are refused, too. Those that are neither
  // converted nor read now are for PlaceWeights to check.
  bool check_matrices = true;
};

// Called from the loading thread, of each step first with 0 and of weights last with bytes_done ==
// bytes_total. `step` is a constant: "weights".
using LoadProgress =
    std::function<void(std::string_view step, int64_t bytes_done, int64_t bytes_total)>;

// Takes every tensor the configuration calls for, folds linear knocks (KHA) into the projections in
// double precision, rounded once, and refuses what is missing, extra, misshapen, of
// a wrong dtype or not finite: one line with file, tensor, expected and found.
// Matrices kept in their dtype are views of the mapping: no copy.
absl::StatusOr<ModelWeights> LoadWeights(const Checkpoint& checkpoint,
                                         const LoadOptions& options = {},
                                         const LoadProgress& progress = {});

// ModelWeights::num_bytes of what LoadWeights would give, from the headers of the checkpoint alone;
// refuses what they show, as LoadWeights does.
absl::StatusOr<int64_t> PlannedWeightBytes(const Checkpoint& checkpoint,
                                           const LoadOptions& options = {});

}  // namespace mea
