#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "engine/storage/safetensors.h"
#include "kernels/backend.h"
#include "kernels/paged_kv.h"
#include "kernels/tensor.h"

namespace mea {

// One layer as the forward pass wants it. Matrices are [out, in] in their storage dtype (or the
// one asked for); vectors and mixes are f32. d = head_dim, H = q_heads, h = kv_heads.
struct LayerWeights {
  // Gains of norms [hidden], or absent: of what attention and the feed-forward network read, and of
  // what they add to the residual.
  TensorView input_norm, attention_output_norm;
  TensorView ffn_norm, ffn_output_norm;

  TensorView q_proj;          // [H * d, hidden]
  TensorView k_proj;          // [h'_K * d, hidden]
  TensorView v_proj;          // [h'_V * d, hidden]
  TensorView o_proj;          // [hidden, H * d]
  TensorView q_bias;          // [H * d], or absent
  TensorView k_bias;          // [h'_K * d], or absent
  TensorView v_bias;          // [h'_V * d], or absent
  TensorView o_bias;          // [hidden], or absent
  TensorView q_norm;          // [d] for every head, [H * d] for all together, or absent
  TensorView k_norm;          // [d] or [h'_K * d] likewise
  HeadMix mix;                // key [h'_K, h], value [h'_V, h]; absent = identity
  TensorView head_norm_gain;  // [H, d], or absent; a gain shared by the heads is repeated
  // Further ones of the attention variant (engine/attention), which alone knows them.
  std::vector<TensorView> variant;

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

// Every parameter of a model. Views look into `storage`, which keeps the mapped checkpoint alive.
// Immutable after loading, so any thread may read it.
struct ModelWeights {
  TensorView embedding;  // [vocab, hidden]
  std::vector<LayerWeights> layers;
  TensorView final_norm;  // [hidden]
  TensorView lm_head;     // [vocab, hidden]; the embedding itself where they are tied

  std::vector<Tensor> storage;
  int64_t num_bytes = 0;             // of everything above
  std::vector<int64_t> stage_bytes;  // of each device that has a part; empty on the host
  int64_t mapped_bytes = 0;          // the part that is read straight from the checkpoint's pages

  // The checkpoint's tensor behind views that nobody has read yet, by their data: whoever copies
  // them refuses what is not finite.
  std::unordered_map<const void*, const StoredTensor*> unchecked;
};

struct LoadOptions {
  // f32, bf16, f16: convert every matrix; int8: quantise all but routers; int4: likewise, but
  // embedding and output to 8 bits; absent: keep.
  std::optional<DType> weight_dtype;
  bool prefault = true;  // read mapped pages now, so that the first request does not
  // Whether matrices that hold an infinity or NaN are refused, too. Those that are neither
  // converted nor read now are for PlaceWeights to check.
  bool check_matrices = true;
  // A directory that keeps what is made of the checkpoint's tensors (weight_cache.h); empty: none.
  std::filesystem::path weight_cache;
  std::function<void(std::string)> warn;  // of what is wrong there and does not matter
};

// Called from the loading thread, of each step first with 0 and of weights last with bytes_done ==
// bytes_total. `step` is a constant: "weights".
using LoadProgress =
    std::function<void(std::string_view step, int64_t bytes_done, int64_t bytes_total)>;

}  // namespace mea
