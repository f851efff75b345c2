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

// Lists the tensors of one model.
class Lister {
 public:
  Lister(const ModelConfig& config, TensorList& list)
      : config_(config), design_(config.layers), list_(list) {}

  void Gain(const std::string& name, int64_t size, TensorView& view, double scale = 1.0) {
    list_.Add({.name = name,
               .view = &view,
               .shape = {size},
               .role = TensorRole::kGain,
               .scale = scale,
               .offset = design_.gain_offset * scale});
  }

  void Layer(int layer, LayerWeights& w) {
    const std::string prefix = absl::StrCat("model.layers.", layer, ".");
    Norm(prefix, design_.input_norm, w.input_norm);
    Attention(layer, prefix + "self_attn.", w);
    Norm(prefix, design_.attention_output_norm, w.attention_output_norm);
    Norm(prefix, design_.ffn_norm, w.ffn_norm);
    if (config_.is_sparse(layer)) {
      Experts(prefix, w);
    } else {
      FeedForward(prefix + "mlp.", w);
    }
    Norm(prefix, design_.ffn_output_norm, w.ffn_output_norm);
  }

 private:
  // A projection and its bias.
  struct Linear {
    const char* name;
    int64_t rows;
    TensorView& weight;
    TensorView& bias;
    bool rotates = false;  // its heads do
  };

  void Norm(const std::string& prefix, std::string_view name, TensorView& view) {
    if (!name.empty()) Gain(Weight(prefix, name), config_.hidden_size, view);
  }

  // The factors of one product, adjacent in memory; stored one by one or all in the tensor
  // `joined`.
  void Product(const std::string& prefix, std::string_view joined, const std::vector<Linear>& parts,
               int64_t in, bool has_bias) {
    int64_t all_rows = 0;
    for (const Linear& part : parts) all_rows += part.rows;
    for (const bool is_bias : {false, true}) {
      if (is_bias && !has_bias) continue;
      int64_t first_row = 0;
      for (const Linear& part : parts) {
        const auto shape_of = [&](int64_t rows) {
          return is_bias ? std::vector<int64_t>{rows} : std::vector<int64_t>{rows, in};
        };
        TensorSpec spec{
            .name = absl::StrCat(prefix, joined.empty() ? part.name : std::string(joined),
                                 is_bias ? ".bias" : ".weight"),
            .view = is_bias ? &part.bias : &part.weight,
            .shape = shape_of(part.rows),
            .role = is_bias ? TensorRole::kBias : TensorRole::kMatrix,
            .joins = first_row > 0};
        if (!joined.empty()) {
          spec.stored_shape = shape_of(all_rows);
          spec.first_row = first_row;
        }
        if (part.rotates) spec.head_rows = rotary_order_;
        list_.Add(std::move(spec));
        first_row += part.rows;
      }
    }
  }

  void Attention(int layer, const std::string& prefix, LayerWeights& w) {
    const LayerHeads& heads = config_.layer_heads[layer];
    const int64_t hidden = config_.hidden_size;
    const int64_t d = config_.head_dim;
    const int64_t q_rows = config_.q_heads * d;
    const int64_t k_rows = heads.key_heads * d;
    Product(prefix, design_.qkv_proj,
            {{"q_proj", q_rows, w.q_proj, w.q_bias, /*rotates=*/true},
             {"k_proj", k_rows, w.k_proj, w.k_bias, /*rotates=*/true},
             {"v_proj", heads.value_heads * d, w.v_proj, w.v_bias}},
            hidden, config_.qkv_bias);
    Product(prefix, "", {{"o_proj", hidden, w.o_proj, w.o_bias}}, q_rows, config_.o_bias);
    if (design_.qk_norm || design_.qk_row_norm) {
      Gain(prefix + "q_norm.weight", design_.qk_norm ? d : q_rows, w.q_norm);
      list_.Of(w.q_norm).head_rows = rotary_order_;
      Gain(prefix + "k_norm.weight", design_.qk_norm ? d : k_rows, w.k_norm);
      list_.Of(w.k_norm).head_rows = rotary_order_;
    }
    AttentionOf(config_).ListTensors(config_, layer, prefix, w, list_);
  }

  void FeedForward(const std::string& prefix, LayerWeights& w) {
    const int64_t hidden = config_.hidden_size;
    const int64_t ffn = config_.ffn_size;
    Product(prefix, design_.gate_up_proj,
            {{"gate_proj", ffn, w.gate_proj, w.gate_bias}, {"up_proj", ffn, w.up_proj, w.up_bias}},
            hidden, config_.mlp_bias);
    Product(prefix, "", {{"down_proj", hidden, w.down_proj, w.down_bias}}, ffn, config_.mlp_bias);
  }

  // Every expert is a set of tensors of its own. In memory those of all experts lie at equal
  // distances.
  void Experts(const std::string& prefix, LayerWeights& w) {
    const auto& names = design_.experts;
    const std::string block = absl::StrCat(prefix, std::string(names.block));
    const int64_t hidden = config_.hidden_size;
    const int64_t ffn = config_.moe.ffn_size;
    const int num_experts = config_.moe.num_experts;
    w.experts.resize(num_experts);
    list_.Add({.name = block + "gate.weight",
               .view = &w.router,
               .shape = {num_experts, hidden},
               .role = TensorRole::kExactMatrix});
    const auto add = [&](int expert, std::string_view name, TensorView& view,
                         std::vector<int64_t> shape, bool joins) {
      list_.Add({.name = Weight(absl::StrCat(block, "experts.", expert, "."), name),
                 .view = &view,
                 .shape = std::move(shape),
                 .joins = joins,
                 .is_expert = true});
    };
    for (int e = 0; e < num_experts; ++e) {
      add(e, names.gate, w.experts[e].gate, {ffn, hidden}, /*joins=*/e > 0);
      add(e, names.up, w.experts[e].up, {ffn, hidden}, /*joins=*/true);
    }
    for (int e = 0; e < num_experts; ++e) {
      add(e, names.down, w.experts[e].down, {hidden, ffn}, /*joins=*/e > 0);
    }
  }

  static std::string Weight(const std::string& prefix, std::string_view name) {
    return absl::StrCat(prefix, std::string(name), ".weight");
  }

  const ModelConfig& config_;
  const LayerDesign& design_;
  TensorList& list_;
  const std::vector<int> rotary_order_ = RotaryOrder(config_.rope, config_.head_dim);
};

// Tensors that checkpoints of this family may contain and that mean nothing: RoPE frequencies that
// older versions of transformers saved, and a copy of the embedding where the output is tied to it.
IsHarmless HarmlessIn(const ModelConfig& config) {
  return [&config](std::string_view name) {
    return name.ends_with("rotary_emb.inv_freq") ||
           (config.tie_word_embeddings && name == "lm_head.weight");
  };
}

}  // namespace

TensorList ListTensors(const ModelConfig& config, ModelWeights& weights) {
  return ListTensors(config, AllLayers(config), weights);
}

TensorList ListTensors(const ModelConfig& config, LayerRange layers, ModelWeights& weights) {
  const int64_t vocab = config.vocab_size;
  const int64_t hidden = config.hidden_size;
  TensorList list;
  Lister lister(config, list);
  const auto add_vocabulary = [&](const char* name, TensorView& view) {
    list.Add(
        {.name = name, .view = &view, .shape = {vocab, hidden}, .role = TensorRole::kVocabulary});
  };
  constexpr char kEmbedding[] = "model.embed_tokens.weight";
  if (layers.has_embedding()) add_vocabulary(kEmbedding, weights.embedding);
  weights.layers.resize(config.num_layers);
  for (int layer = layers.begin; layer < layers.end; ++layer) {
    lister.Layer(layer, weights.layers[layer]);
  }
  if (!layers.has_output(config)) return list;
  // The gain of the final norm includes the scale of the logits.
  lister.Gain("model.norm.weight", hidden, weights.final_norm, config.logit_scale);
  if (!config.tie_word_embeddings) {
    add_vocabulary("lm_head.weight", weights.lm_head);
  } else if (!layers.has_embedding()) {
    add_vocabulary(kEmbedding, weights.lm_head);
  }
  return list;
}

absl::StatusOr<ModelWeights> LoadWeights(const Checkpoint& checkpoint, const LoadOptions& options,
                                         const LoadProgress& progress) {
  const ModelConfig& config = checkpoint.config;
  ModelWeights weights;
  MEA_RETURN_IF_ERROR(LoadTensors(checkpoint.tensors, ListTensors(config, weights),
                                  HarmlessIn(config), config.packed, options, progress, weights));
  if (config.tie_word_embeddings) weights.lm_head = weights.embedding;
  return weights;
}

absl::StatusOr<int64_t> PlannedWeightBytes(const Checkpoint& checkpoint,
                                           const LoadOptions& options) {
  return PlannedWeightBytes(checkpoint, AllLayers(checkpoint.config), options);
}

absl::StatusOr<int64_t> PlannedWeightBytes(const Checkpoint& checkpoint, LayerRange layers,
                                           const LoadOptions& options) {
  const ModelConfig& config = checkpoint.config;
  ModelWeights unread;
  const IsHarmless belongs_elsewhere = [](std::string_view /*name*/) { return true; };
  return PlannedTensorBytes(checkpoint.tensors, ListTensors(config, layers, unread),
                            layers == AllLayers(config) ? HarmlessIn(config) : belongs_elsewhere,
                            config.packed, options);
}

absl::StatusOr<ModelWeights> PlaceWeights(const ModelConfig& config, ModelWeights host,
                                          std::span<const StagePlace> places,
                                          const LoadProgress& progress) {
  if (host.embedding.device == places.front().backend->device()) {
    host.unchecked.clear();  // the checkpoint is no longer needed
    return host;
  }
  // A copy of the views, while `host` keeps their memory alive.
  ModelWeights placed{.embedding = host.embedding,
                      .layers = host.layers,
                      .final_norm = host.final_norm,
                      .lm_head = host.lm_head,
                      .storage = {},
                      .unchecked = {}};
  // A tied embedding is on the first device and, as the output layer, on the last.
  int64_t total = host.num_bytes;
  if (config.tie_word_embeddings && places.size() > 1) {
    total += host.embedding.num_elements() * DTypeSize(host.embedding.dtype);
  }
  for (const auto& [backend, layers] : places) {
    const int64_t before = placed.num_bytes;
    const LoadProgress of_all = [&](std::string_view step, int64_t done, int64_t of) {
      if (progress) progress(step, before + done, of);
    };
    MEA_RETURN_IF_ERROR(PlaceTensors(ListTensors(config, layers, placed), host.unchecked, total,
                                     *backend, of_all, placed));
    placed.stage_bytes.push_back(placed.num_bytes - before);
  }
  if (config.tie_word_embeddings && places.size() == 1) placed.lm_head = placed.embedding;
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

absl::StatusOr<ModelWeights> MakeRandomWeightsOn(std::span<const StagePlace> places,
                                                 const ModelConfig& config, uint64_t seed,
                                                 const LoadProgress& progress) {
  ModelWeights weights;
  for (const auto& [backend, layers] : places) {
    const int64_t before = weights.num_bytes;
    MEA_RETURN_IF_ERROR(MakeRandomTensorsOn(*backend, ListTensors(config, layers, weights),
                                            seed + layers.begin, progress, weights));
    weights.stage_bytes.push_back(weights.num_bytes - before);
  }
  if (config.tie_word_embeddings && places.size() == 1) weights.lm_head = weights.embedding;
  return weights;
}

int64_t PlannedRandomWeightBytes(const ModelConfig& config, LayerRange layers, DType matrix_dtype) {
  ModelWeights unmade;
  return PlannedRandomTensorBytes(ListTensors(config, layers, unmade), matrix_dtype);
}

}  // namespace mea
