#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/config/rope.h"
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

// A decoder of the Llama family (llama, mistral, mixtral, qwen2, qwen3, qwen3_moe), with or without
// head composition.
// Read by engine/checkpoint, which has range-checked every number; immutable from then on.
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
  bool qk_norm = false;  // RMSNorm over head_dim of each query and composite key before RoPE

  std::vector<int> layer_windows;  // [num_layers] tokens, the present one included; 0 = no window
  RopeConfig rope;

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
  std::optional<DType> dtype;  // as declared; each tensor's own dtype is what counts

  bool is_sparse(int layer) const { return !sparse_layers.empty() && sparse_layers[layer]; }
  int num_sparse_layers() const;
  // Whether any layer caches fewer heads than it attends.
  bool compressed() const;
  // What one token leaves in the cache in `layer` when keys and values are stored as `dtype`.
  KvSpec LayerKvSpec(int layer, DType kv_dtype) const;
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
