#include "engine/model/weight_plan.h"

#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/checkpoint/mismatch.h"

namespace mea {
namespace {

using Shape = std::vector<int64_t>;

// What the configuration calls for, matched against what the checkpoint has. The first mismatch
// sticks.
class Planner {
 public:
  Planner(const Checkpoint& checkpoint, const LoadOptions& options)
      : tensors_(checkpoint.tensors), config_(checkpoint.config), options_(options) {}

  absl::Status Make(ModelWeights& weights) {
    const int64_t vocab = config_.vocab_size;
    const int64_t hidden = config_.hidden_size;
    Matrix("model.embed_tokens.weight", {vocab, hidden}, weights.embedding);
    weights.layers.resize(config_.num_layers);
    for (int layer = 0; layer < config_.num_layers; ++layer) {
      Layer(layer, absl::StrCat("model.layers.", layer, "."), weights.layers[layer]);
    }
    Vector("model.norm.weight", {hidden}, weights.final_norm);
    if (!config_.tie_word_embeddings) Matrix("lm_head.weight", {vocab, hidden}, weights.lm_head);
    RefuseExtras();
    return status_;
  }

  WeightPlan Finish() && { return {.tasks = std::move(tasks_), .knocks = std::move(knocks_)}; }

 private:
  void Layer(int layer, const std::string& prefix, LayerWeights& weights) {
    const int64_t hidden = config_.hidden_size;
    Vector(prefix + "input_layernorm.weight", {hidden}, weights.input_norm);
    Attention(config_.layer_heads[layer], prefix + "self_attn.", weights);
    Vector(prefix + "post_attention_layernorm.weight", {hidden}, weights.post_attention_norm);
    if (config_.is_sparse(layer)) return Experts(prefix, weights);
    const int64_t ffn = config_.ffn_size;
    const bool bias = config_.mlp_bias;
    Linear(prefix + "mlp.gate_proj", {ffn, hidden}, weights.gate_proj, bias, weights.gate_bias);
    Linear(prefix + "mlp.up_proj", {ffn, hidden}, weights.up_proj, bias, weights.up_bias);
    Linear(prefix + "mlp.down_proj", {hidden, ffn}, weights.down_proj, bias, weights.down_bias);
  }

  // Every expert is a set of tensors of its own, named as the family does.
  void Experts(const std::string& prefix, LayerWeights& weights) {
    const bool mixtral = config_.base_model_type == "mixtral";
    const std::string block = prefix + (mixtral ? "block_sparse_moe." : "mlp.");
    const int64_t hidden = config_.hidden_size;
    const int64_t ffn = config_.moe.ffn_size;
    const Shape router = {config_.moe.num_experts, hidden};
    Take(block + "gate.weight", router,
         {.view = &weights.router, .shape = router, .is_matrix = true, .stays_exact = true});
    weights.experts.resize(config_.moe.num_experts);
    for (int e = 0; e < config_.moe.num_experts; ++e) {
      const std::string name = absl::StrCat(block, "experts.", e, ".");
      Expert& expert = weights.experts[e];
      Matrix(name + (mixtral ? "w1" : "gate_proj") + ".weight", {ffn, hidden}, expert.gate);
      Matrix(name + (mixtral ? "w3" : "up_proj") + ".weight", {ffn, hidden}, expert.up);
      Matrix(name + (mixtral ? "w2" : "down_proj") + ".weight", {hidden, ffn}, expert.down);
    }
  }

  void Attention(const LayerHeads& heads, const std::string& prefix, LayerWeights& weights) {
    const int64_t hidden = config_.hidden_size;
    const int64_t d = config_.head_dim;
    const int64_t q_size = config_.q_heads * d;
    const bool bias = config_.qkv_bias;
    const Knocks knocks = TakeKnocks(prefix, weights);
    Linear(prefix + "q_proj", {q_size, hidden}, weights.q_proj, bias, weights.q_bias, knocks.q);
    Linear(prefix + "k_proj", {heads.key_heads * d, hidden}, weights.k_proj, bias, weights.k_bias,
           knocks.k);
    Linear(prefix + "v_proj", {heads.value_heads * d, hidden}, weights.v_proj, bias, weights.v_bias,
           knocks.v);
    Linear(prefix + "o_proj", {hidden, q_size}, weights.o_proj, config_.o_bias, weights.o_bias);
    if (config_.qk_norm) {
      Vector(prefix + "q_norm.weight", {d}, weights.q_norm);
      Vector(prefix + "k_norm.weight", {d}, weights.k_norm);
    }
    const int64_t h = config_.kv_heads;
    if (heads.key_mix) {
      Vector(prefix + "k_hlc.weight", {heads.key_heads, h}, weights.mix.key);
    }
    if (heads.value_mix) {
      Vector(prefix + "v_hlc.weight", {heads.value_heads, h}, weights.mix.value);
    }
    if (config_.head_norm == HeadNorm::kRms) {
      HeadNormGain(prefix + "head_norm.weight", weights.head_norm_gain);
    }
    if (heads.pseudo_heads > 0) PseudoHeads(prefix, heads.pseudo_heads, weights);
  }

  // T^Q, T^K, T^V of KHA, to be folded; null where there are none.
  struct Knocks {
    const TensorView* q = nullptr;
    const TensorView* k = nullptr;
    const TensorView* v = nullptr;
  };
  Knocks TakeKnocks(const std::string& prefix, LayerWeights& weights) {
    const Shape shape = {config_.head_dim, config_.head_dim};
    if (config_.knock == Knock::kMlp) {
      Matrix(prefix + "knock_v_up.weight", shape, weights.knock_v_up);
      Matrix(prefix + "knock_v_gate.weight", shape, weights.knock_v_gate);
      Matrix(prefix + "knock_v_down.weight", shape, weights.knock_v_down);
    }
    if (config_.knock != Knock::kLinear) return {};
    const auto take = [&](const char* name) {
      TensorView& view = knocks_.emplace_back();
      Take(prefix + name, shape, {.view = &view, .shape = shape, .is_temporary = true});
      return &view;
    };
    return {.q = take("knock_q.weight"), .k = take("knock_k.weight"), .v = take("knock_v.weight")};
  }

  // The mixing tensors [m, j, p] and the collapse [i, j * P + p] of IHA.
  void PseudoHeads(const std::string& prefix, int64_t pseudo_heads, LayerWeights& weights) {
    const int64_t h = config_.kv_heads;
    const std::array<int64_t, 3> dims = {h, h, pseudo_heads};
    const Shape mix = {h, h * pseudo_heads};
    const Shape stored = {h, h, pseudo_heads};
    Take(prefix + "iha_q", stored,
         {.view = &weights.query_mix, .shape = mix, .dims = dims, .order = {0, 2, 1}});
    Take(prefix + "iha_k", stored, {.view = &weights.mix.key, .shape = mix});
    Take(prefix + "iha_v", stored, {.view = &weights.mix.value, .shape = mix});
    Take(prefix + "iha_collapse.weight", mix,
         {.view = &weights.collapse, .shape = {mix[1], h}, .dims = dims, .order = {2, 1, 0}});
  }

  // [H * d], or [d] for all heads alike.
  void HeadNormGain(const std::string& name, TensorView& view) {
    const Shape shape = {config_.q_heads, config_.head_dim};
    const StoredTensor* stored = tensors_.Find(name);
    const bool shared = stored != nullptr && stored->shape == Shape{shape[1]};
    Take(name, {shared ? shape[1] : shape[0] * shape[1]}, {.view = &view, .shape = shape});
  }

  void Linear(const std::string& name, const Shape& shape, TensorView& weight, bool has_bias,
              TensorView& bias, const TensorView* knock = nullptr) {
    Matrix(name + ".weight", shape, weight, knock);
    if (!has_bias) return;
    Take(name + ".bias", {shape[0]}, {.view = &bias, .shape = {shape[0]}, .knock = knock});
  }

  void Matrix(const std::string& name, const Shape& shape, TensorView& view,
              const TensorView* knock = nullptr) {
    Take(name, shape, {.view = &view, .shape = shape, .is_matrix = true, .knock = knock});
  }

  void Vector(const std::string& name, const Shape& shape, TensorView& view) {
    Take(name, shape, {.view = &view, .shape = shape});
  }

  void Take(const std::string& name, const Shape& stored_shape, WeightTask task);
  void RefuseExtras();
  void Refuse(const std::string& file, const std::string& name, const std::string& expected,
              const std::string& found) {
    if (status_.ok()) {
      status_ = absl::InvalidArgumentError(Mismatch(file, ShownName(name), expected, found));
    }
  }

  const SafeTensors& tensors_;
  const ModelConfig& config_;
  const LoadOptions& options_;
  std::vector<WeightTask> tasks_;
  std::deque<TensorView> knocks_;  // where tasks find them while they are loaded
  std::set<std::string_view> taken_;
  absl::Status status_;
};

void Planner::Take(const std::string& name, const Shape& stored_shape, WeightTask task) {
  const StoredTensor* stored = tensors_.Find(name);
  if (stored == nullptr) {
    Refuse(tensors_.source(), name, absl::StrCat("shape ", ShapeString(stored_shape)),
           "no such tensor");
    return;
  }
  taken_.insert(stored->name);
  if (stored->shape != stored_shape) {
    Refuse(stored->file->path(), name, absl::StrCat("shape ", ShapeString(stored_shape)),
           ShapeString(stored->shape));
    return;
  }
  const std::optional<DType> dtype = LoadableDType(stored->dtype);
  if (!dtype) {
    Refuse(stored->file->path(), name, "dtype F32, F16 or BF16", StoredDTypeName(stored->dtype));
    return;
  }
  task.stored = stored;
  task.dtype = task.is_matrix ? options_.weight_dtype.value_or(*dtype) : DType::kF32;
  if (task.stays_exact && task.dtype == DType::kI8) task.dtype = *dtype;
  tasks_.push_back(std::move(task));
}

// What checkpoints of this family carry without meaning anything by it: RoPE frequencies that older
// versions of transformers saved, and a copy of the embedding where the output is tied to it.
bool IsHarmless(std::string_view name, const ModelConfig& config) {
  return name.ends_with("rotary_emb.inv_freq") ||
         (config.tie_word_embeddings && name == "lm_head.weight");
}

void Planner::RefuseExtras() {
  for (const auto& [name, stored] : tensors_.tensors()) {
    if (taken_.contains(name) || IsHarmless(name, config_)) continue;
    Refuse(stored.file->path(), name, "no such tensor in this configuration",
           absl::StrCat(StoredDTypeName(stored.dtype), " ", ShapeString(stored.shape)));
  }
}

}  // namespace

absl::StatusOr<WeightPlan> PlanWeights(const Checkpoint& checkpoint, const LoadOptions& options,
                                       ModelWeights& weights) {
  Planner planner(checkpoint, options);
  if (absl::Status status = planner.Make(weights); !status.ok()) return status;
  return std::move(planner).Finish();
}

}  // namespace mea
