#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/config/packed_format.h"
#include "engine/config/rope.h"
#include "kernels/ops/rowwise.h"
#include "kernels/paged_kv.h"

namespace mea {

class AttentionVariant;

// The heads one layer caches. h' may differ between keys and values and from layer to layer.
struct LayerHeads {
  int key_heads = 0;    // h'_K, 1..kv_heads
  int value_heads = 0;  // h'_V, 1..kv_heads
  // Whether W_lc composes the cached heads. Always where h' < h; where h' = h the checkpoint may
  // leave W_lc out, which means the identity.
  bool key_mix = false;
  bool value_mix = false;

  bool operator==(const LayerHeads&) const = default;
};

enum class HeadNorm : uint8_t { kNone, kRms };

// The experts of the layers that have some in place of one feed-forward network (Backend::Moe).
struct MoeConfig {
  int num_experts = 0;
  int top_k = 0;             // experts that a token goes to, 1..num_experts
  int ffn_size = 0;          // of one expert
  bool renormalise = false;  // whether the weights of the chosen experts add up to 1

  bool operator==(const MoeConfig&) const = default;
};

// What the layers of a family are made of: the part of a configuration that no field of config.json
// says. Names are those of tensors behind "model.layers.N.", without ".weight"; empty: there is
// none.
struct LayerDesign {
  // RMSNorms: of what a block reads, and of what it adds to the residual.
  std::string_view input_norm = "input_layernorm";
  std::string_view attention_output_norm = "";
  std::string_view ffn_norm = "post_attention_layernorm";
  std::string_view ffn_output_norm = "";
  double gain_offset = 0;  // stored gains are of this more
  // q, k and v, or gate and up, in one tensor of self_attn or mlp.
  std::string_view qkv_proj = "";
  std::string_view gate_up_proj = "";
  bool qk_norm = false;      // RMSNorm over head_dim of each query and virtual key before RoPE
  bool qk_row_norm = false;  // or over all queries, and all keys, of a token
  Activation activation = Activation::kSilu;  // of the gate of a dense feed-forward network
  struct {
    std::string_view block = "mlp.";
    std::string_view gate = "gate_proj";
    std::string_view up = "up_proj";
    std::string_view down = "down_proj";
  } experts;
};

// A decoder of one of the families (engine/family), with or without head composition. Read by
// engine/checkpoint, which has range-checked every number; immutable from then on.
struct ModelConfig {
  std::string model_type;  // as the file says: "mea", "llama", ...
  std::string
      base_model_type;  // the family whose layers these are; model_type unless that is "mea"

  int hidden_size = 0;
  int num_layers = 0;
  int q_heads = 0;   // H
  int kv_heads = 0;  // h, virtual heads: what the queries see, whatever the cache holds
  int head_dim = 0;  // d, even
  int ffn_size = 0;  // of the dense layers
  int vocab_size = 0;
  int max_position = 0;  // context, in tokens
  float rms_norm_eps = 1e-6f;
  bool tie_word_embeddings = false;

  bool qkv_bias = false;
  bool o_bias = false;
  bool mlp_bias = false;
  LayerDesign layers;

  double embedding_scale = 1.0;
  double residual_scale = 1.0;   // of what a block adds
  double attention_scale = 0.0;  // of q . k; 0: 1 / sqrt(head_dim)
  double logit_scale = 1.0;

  std::vector<int> layer_windows;  // [num_layers] tokens, the present one included; 0 = no window
  RopeConfig rope;
  // Layers that rotate otherwise, or not at all.
  std::optional<RopeConfig> other_rope;
  std::vector<bool> other_rope_layers;  // [num_layers] where there is another

  std::vector<LayerHeads> layer_heads;   // [num_layers]
  HeadNorm head_norm = HeadNorm::kNone;  // of each query head's output, before o_proj
  float head_norm_eps = 1e-5f;
  std::string composition = "none";  // head_composition.kind
  // How attention departs from plain attention over the cached heads; null: it does not. Use
  // AttentionOf (engine/attention/variant.h).
  std::shared_ptr<const AttentionVariant> attention;

  std::vector<bool> sparse_layers;  // [num_layers] which have experts; empty: none has
  MoeConfig moe;

  std::optional<int32_t> bos_token_id;
  std::vector<int32_t> eos_token_ids;
  std::optional<DType> dtype;          // as declared; each tensor's own dtype is what counts
  std::optional<PackedFormat> packed;  // of matrices that are stored in 4 bits

  bool is_sparse(int layer) const { return !sparse_layers.empty() && sparse_layers[layer]; }
  int num_sparse_layers() const;
  // Whether any layer caches fewer heads than it attends.
  bool compressed() const;
  // What one token leaves in the cache in `layer` when keys and values are stored as `dtype`.
  KvSpec LayerKvSpec(int layer, KvDTypes kv_dtype) const;
};

// What generation_config.json proposes; absent fields leave the server's own defaults alone.
struct GenerationDefaults {
  std::string file;               // that proposes them; empty: none does
  std::optional<bool> do_sample;  // false: greedy, whatever the temperature says
  std::optional<float> temperature;
  std::optional<int> top_k;
  std::optional<float> top_p;
  std::optional<float> min_p;
  std::optional<float> repetition_penalty;
  std::optional<int> max_new_tokens;
  std::vector<int32_t> eos_token_ids;  // from config.json where generation_config.json has none
};

// The longest context that the positions are made for: max_position, or what YaRN stretches them
// to, which config.json often leaves to whoever serves the model.
int LongestContext(const ModelConfig& config);

}  // namespace mea
