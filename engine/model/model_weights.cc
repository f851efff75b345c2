#include "engine/model/model_weights.h"

#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/attention/variant.h"
#include "engine/weights/load_tensors.h"
#include "engine/weights/place_tensors.h"
#include "engine/weights/random_tensors.h"
#include "kernels/status_macros.h"

namespace mea {
namespace {

void ListBias(const std::string& name, int64_t size, TensorView& view, bool joins,
              TensorList& list) {
  list.Add(
      {.name = name, .view = &view, .shape = {size}, .role = TensorRole::kBias, .joins = joins});
}

void ListGain(const std::string& name, int64_t size, TensorView& view, TensorList& list) {
  list.Add({.name = name, .view = &view, .shape = {size}, .role = TensorRole::kGain});
}

void ListAttention(const ModelConfig& config, int layer, const std::string& prefix, LayerWeights& w,
                   TensorList& list) {
  const LayerHeads& heads = config.layer_heads[layer];
  const int64_t hidden = config.hidden_size;
  const int64_t q = int64_t{config.q_heads} * config.head_dim;
  const int64_t k = int64_t{heads.key_heads} * config.head_dim;
  const int64_t v = int64_t{heads.value_heads} * config.head_dim;
  list.Add({.name = prefix + "q_proj.weight", .view = &w.q_proj, .shape = {q, hidden}});
  list.Add(
      {.name = prefix + "k_proj.weight", .view = &w.k_proj, .shape = {k, hidden}, .joins = true});
  list.Add(
      {.name = prefix + "v_proj.weight", .view = &w.v_proj, .shape = {v, hidden}, .joins = true});
  list.Add({.name = prefix + "o_proj.weight", .view = &w.o_proj, .shape = {hidden, q}});
  if (config.qkv_bias) {
    ListBias(prefix + "q_proj.bias", q, w.q_bias, /*joins=*/false, list);
    ListBias(prefix + "k_proj.bias", k, w.k_bias, /*joins=*/true, list);
    ListBias(prefix + "v_proj.bias", v, w.v_bias, /*joins=*/true, list);
  }
  if (config.o_bias) ListBias(prefix + "o_proj.bias", hidden, w.o_bias, /*joins=*/false, list);
  if (config.qk_norm) {
    ListGain(prefix + "q_norm.weight", config.head_dim, w.q_norm, list);
    ListGain(prefix + "k_norm.weight", config.head_dim, w.k_norm, list);
  }
  AttentionOf(config).ListTensors(config, layer, prefix, w, list);
}

void ListFeedForward(const ModelConfig& config, const std::string& prefix, LayerWeights& w,
                     TensorList& list) {
  const int64_t hidden = config.hidden_size;
  const int64_t ffn = config.ffn_size;
  list.Add({.name = prefix + "gate_proj.weight", .view = &w.gate_proj, .shape = {ffn, hidden}});
  list.Add({.name = prefix + "up_proj.weight",
            .view = &w.up_proj,
            .shape = {ffn, hidden},
            .joins = true});
  list.Add({.name = prefix + "down_proj.weight", .view = &w.down_proj, .shape = {hidden, ffn}});
  if (!config.mlp_bias) return;
  ListBias(prefix + "gate_proj.bias", ffn, w.gate_bias, /*joins=*/false, list);
  ListBias(prefix + "up_proj.bias", ffn, w.up_bias, /*joins=*/true, list);
  ListBias(prefix + "down_proj.bias", hidden, w.down_bias, /*joins=*/false, list);
}

// Every expert is a set of tensors of its own, named as the family does. In memory those of all
// experts follow one another, equally far apart.
void ListExperts(const ModelConfig& config, const std::string& prefix, LayerWeights& w,
                 TensorList& list) {
  const bool mixtral = config.base_model_type == "mixtral";
  const std::string block = prefix + (mixtral ? "block_sparse_moe." : "mlp.");
  const int64_t hidden = config.hidden_size;
  const int64_t ffn = config.moe.ffn_size;
  const int num_experts = config.moe.num_experts;
  w.experts.resize(num_experts);
  const auto name = [&](int expert, const char* of_mixtral, const char* of_qwen) {
    return absl::StrCat(block, "experts.", expert, ".", mixtral ? of_mixtral : of_qwen, ".weight");
  };
  list.Add({.name = block + "gate.weight",
            .view = &w.router,
            .shape = {num_experts, hidden},
            .role = TensorRole::kExactMatrix});
  for (int e = 0; e < num_experts; ++e) {
    Expert& expert = w.experts[e];
    list.Add({.name = name(e, "w1", "gate_proj"),
              .view = &expert.gate,
              .shape = {ffn, hidden},
              .joins = e > 0});
    list.Add({.name = name(e, "w3", "up_proj"),
              .view = &expert.up,
              .shape = {ffn, hidden},
              .joins = true});
  }
  for (int e = 0; e < num_experts; ++e) {
    list.Add({.name = name(e, "w2", "down_proj"),
              .view = &w.experts[e].down,
              .shape = {hidden, ffn},
              .joins = e > 0});
  }
}

void ListLayer(const ModelConfig& config, int layer, LayerWeights& w, TensorList& list) {
  const std::string prefix = absl::StrCat("model.layers.", layer, ".");
  ListGain(prefix + "input_layernorm.weight", config.hidden_size, w.input_norm, list);
  ListAttention(config, layer, prefix + "self_attn.", w, list);
  ListGain(prefix + "post_attention_layernorm.weight", config.hidden_size, w.post_attention_norm,
           list);
  if (config.is_sparse(layer)) {
    ListExperts(config, prefix, w, list);
  } else {
    ListFeedForward(config, prefix + "mlp.", w, list);
  }
}

// What checkpoints of this family carry without meaning anything by it: RoPE frequencies that older
// versions of transformers saved, and a copy of the embedding where the output is tied to it.
IsHarmless HarmlessIn(const ModelConfig& config) {
  return [&config](std::string_view name) {
    return name.ends_with("rotary_emb.inv_freq") ||
           (config.tie_word_embeddings && name == "lm_head.weight");
  };
}

}  // namespace

TensorList ListTensors(const ModelConfig& config, ModelWeights& weights) {
  const int64_t vocab = config.vocab_size;
  const int64_t hidden = config.hidden_size;
  TensorList list;
  list.Add(
      {.name = "model.embed_tokens.weight", .view = &weights.embedding, .shape = {vocab, hidden}});
  weights.layers.resize(config.num_layers);
  for (int layer = 0; layer < config.num_layers; ++layer) {
    ListLayer(config, layer, weights.layers[layer], list);
  }
  ListGain("model.norm.weight", hidden, weights.final_norm, list);
  if (!config.tie_word_embeddings) {
    list.Add({.name = "lm_head.weight", .view = &weights.lm_head, .shape = {vocab, hidden}});
  }
  return list;
}

absl::StatusOr<ModelWeights> LoadWeights(const Checkpoint& checkpoint, const LoadOptions& options,
                                         const LoadProgress& progress) {
  const ModelConfig& config = checkpoint.config;
  ModelWeights weights;
  MEA_RETURN_IF_ERROR(LoadTensors(checkpoint.tensors, ListTensors(config, weights),
                                  HarmlessIn(config), options, progress, weights));
  if (config.tie_word_embeddings) weights.lm_head = weights.embedding;
  return weights;
}

absl::StatusOr<int64_t> PlannedWeightBytes(const Checkpoint& checkpoint,
                                           const LoadOptions& options) {
  ModelWeights unread;
  return PlannedTensorBytes(checkpoint.tensors, ListTensors(checkpoint.config, unread),
                            HarmlessIn(checkpoint.config), options);
}

absl::StatusOr<ModelWeights> PlaceWeights(const ModelConfig& config, ModelWeights host,
                                          Backend& backend, const LoadProgress& progress) {
  if (host.embedding.device == backend.device()) {
    host.unchecked.clear();  // the checkpoint may go
    return host;
  }
  const bool tied = host.lm_head.data == host.embedding.data;
  // A copy of the views, while `host` keeps their memory alive.
  ModelWeights placed{.embedding = host.embedding,
                      .layers = host.layers,
                      .final_norm = host.final_norm,
                      .lm_head = tied ? TensorView() : host.lm_head,
                      .storage = {},
                      .unchecked = {}};
  MEA_RETURN_IF_ERROR(PlaceTensors(ListTensors(config, placed), host.unchecked, host.num_bytes,
                                   backend, progress, placed));
  if (tied) placed.lm_head = placed.embedding;
  return placed;
}

absl::StatusOr<ModelWeights> MakeRandomWeights(const ModelConfig& config, DType matrix_dtype,
                                               uint64_t seed, int num_threads,
                                               const LoadProgress& progress) {
  ModelWeights weights;
  MEA_RETURN_IF_ERROR(MakeRandomTensors(ListTensors(config, weights), matrix_dtype, seed,
                                        num_threads, progress, weights));
  if (config.tie_word_embeddings) weights.lm_head = weights.embedding;
  return weights;
}

absl::StatusOr<ModelWeights> MakeRandomWeightsOn(Backend& backend, const ModelConfig& config,
                                                 uint64_t seed, const LoadProgress& progress) {
  ModelWeights weights;
  MEA_RETURN_IF_ERROR(
      MakeRandomTensorsOn(backend, ListTensors(config, weights), seed, progress, weights));
  if (config.tie_word_embeddings) weights.lm_head = weights.embedding;
  return weights;
}

int64_t PlannedRandomWeightBytes(const ModelConfig& config, DType matrix_dtype) {
  ModelWeights unmade;
  return PlannedRandomTensorBytes(ListTensors(config, unmade), matrix_dtype);
}

}  // namespace mea
