#pragma once

#include <cstdint>

#include "engine/config/config.h"
#include "engine/weights/weights.h"

namespace mea::testing {

// The shape of a small model with random weights, made in memory. Defaults: MEA with half of the
// heads.
struct RandomModelSpec {
  int hidden_size = 48;
  int num_layers = 2;
  int q_heads = 4;
  int kv_heads = 4;
  int key_heads = 2;    // h'_K of the layers that are composed
  int value_heads = 2;  // h'_V
  int head_dim = 16;
  int ffn_size = 64;
  int vocab_size = 61;
  int max_position = 512;
  int window = 0;                 // of all layers, or
  int global_layer = -1;          // of all but this one
  bool plain = false;             // no composition at all: MHA or GQA
  bool plain_last_layer = false;  // a mixed model
  bool one_hot_mix = false;       // h' = h and W_lc = identity: must equal the plain twin
  bool knock = false;             // KHA on the heads of a plain model: the MLP of the values
  int pseudo_heads = 0;           // IHA: P; h = H, `window` tokens, none in a plain last layer
  bool head_norm = false;
  bool qk_norm = false;
  bool biases = false;
  float key_bias = 0;   // with biases: how large those of keys are beside the others
  int num_experts = 0;  // of every layer; 0: all are dense
  int top_k = 2;
  int expert_ffn_size = 24;
  bool renormalise = true;
  bool dense_first_layer = false;
  int nan_token = -1;  // whose row of the embedding is NaN
  DType dtype = DType::kF32;
  uint64_t seed = 1;
};

ModelConfig MakeConfig(const RandomModelSpec& spec);
// The same seed gives the same tensors by name, whatever else differs in the spec.
ModelWeights MakeWeights(const RandomModelSpec& spec, const ModelConfig& config);

}  // namespace mea::testing
