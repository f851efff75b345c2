#include "engine/model/weights.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <deque>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "engine/checkpoint/convert_dtype.h"
#include "engine/checkpoint/mismatch.h"
#include "engine/model/knock.h"
#include "kernels/int8_rows.h"

namespace mea {
namespace {

// Progress is reported at least this often.
constexpr int64_t kChunkBytes = 64 << 20;

using Shape = std::vector<int64_t>;

// One tensor of the checkpoint and the view it becomes.
struct Task {
  const StoredTensor* stored = nullptr;
  TensorView* view = nullptr;
  Shape shape;                // of the view
  DType dtype = DType::kF32;  // of the view
  bool is_matrix = false;
  bool stays_exact = false;           // never in 8 bits: it is small, and decides much
  bool is_temporary = false;          // of no use once all is loaded
  const TensorView* knock = nullptr;  // [d, d]: applied to every head of the rows, when loaded
  // Elements are read as three dimensions and stored with these outermost to innermost.
  std::array<int64_t, 3> dims{};
  std::array<int, 3> order{};  // all zero: as they are
};

// What the configuration calls for, matched against what the checkpoint has. The first mismatch
// sticks.
class Plan {
 public:
  Plan(const Checkpoint& checkpoint, const LoadOptions& options)
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

  const std::vector<Task>& tasks() const { return tasks_; }

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

  void Take(const std::string& name, const Shape& stored_shape, Task task);
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
  std::vector<Task> tasks_;
  std::deque<TensorView> knocks_;  // where tasks find them while they are loaded
  std::set<std::string_view> taken_;
  absl::Status status_;
};

void Plan::Take(const std::string& name, const Shape& stored_shape, Task task) {
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

void Plan::RefuseExtras() {
  for (const auto& [name, stored] : tensors_.tensors()) {
    if (taken_.contains(name) || IsHarmless(name, config_)) continue;
    Refuse(stored.file->path(), name, "no such tensor in this configuration",
           absl::StrCat(StoredDTypeName(stored.dtype), " ", ShapeString(stored.shape)));
  }
}

// Carries out a plan.
class Loader {
 public:
  Loader(bool prefault, const LoadProgress& progress, int64_t bytes_total)
      : prefault_(prefault), progress_(progress), bytes_total_(bytes_total) {}

  absl::Status Load(const Task& task, ModelWeights& weights) {
    const bool map =
        task.is_matrix && LoadableDType(task.stored->dtype) == task.dtype && task.knock == nullptr;
    absl::StatusOr<Tensor> tensor = map                        ? Map(task)
                                    : task.dtype == DType::kI8 ? Quantize(task)
                                    : task.knock               ? Fold(task)
                                                               : Convert(task);
    if (!tensor.ok()) return tensor.status();
    *task.view = tensor->view();
    if (task.is_temporary) {
      temporary_.push_back(*std::move(tensor));
      return absl::OkStatus();
    }
    weights.num_bytes += tensor->num_bytes();
    if (tensor->view().data == task.stored->data()) weights.mapped_bytes += tensor->num_bytes();
    weights.storage.push_back(*std::move(tensor));
    return absl::OkStatus();
  }

  void Report(int64_t more_bytes) {
    bytes_done_ += more_bytes;
    if (progress_) progress_(bytes_done_, bytes_total_);
  }

 private:
  // The pages of the checkpoint themselves.
  absl::StatusOr<Tensor> Map(const Task& task) {
    const StoredTensor& stored = *task.stored;
    for (int64_t first = 0; first < stored.num_bytes; first += kChunkBytes) {
      const int64_t count = std::min(kChunkBytes, stored.num_bytes - first);
      if (prefault_) stored.file->Prefault(stored.offset + first, count);
      Report(count);
    }
    return MapTensor(stored);
  }

  // Memory of its own: another dtype, a small vector, or a gain repeated for every head.
  absl::StatusOr<Tensor> Convert(const Task& task) {
    const StoredTensor& stored = *task.stored;
    absl::StatusOr<Tensor> tensor = Tensor::AllocateHost(task.shape, task.dtype);
    if (!tensor.ok()) return tensor.status();
    const DType from = *LoadableDType(stored.dtype);
    char* out = static_cast<char*>(tensor->view().data);
    const int64_t num_elements = stored.num_bytes / DTypeSize(from);
    const int64_t chunk = kChunkBytes / DTypeSize(from);
    for (int64_t first = 0; first < num_elements; first += chunk) {
      const int64_t count = std::min(chunk, num_elements - first);
      const ConversionResult result =
          ConvertDType(stored.data() + first * DTypeSize(from), from,
                       out + first * DTypeSize(task.dtype), task.dtype, count);
      if (result.num_overflows > 0 || (!task.is_matrix && result.num_non_finite > 0)) {
        return NotFinite(task, result);
      }
      Report(count * DTypeSize(from));
    }
    if (task.order != std::array<int, 3>{}) Reorder(task, reinterpret_cast<float*>(out));
    const int64_t stored_bytes = num_elements * DTypeSize(task.dtype);
    for (int64_t done = stored_bytes; done < tensor->num_bytes(); done += stored_bytes) {
      std::memcpy(out + done, out, stored_bytes);
    }
    return tensor;
  }

  // A projection, or its bias, with the knock applied to every head.
  absl::StatusOr<Tensor> Fold(const Task& task) {
    const StoredTensor& stored = *task.stored;
    absl::StatusOr<Tensor> tensor = Tensor::AllocateHost(task.shape, task.dtype);
    if (!tensor.ok()) return tensor.status();
    const ConversionResult result =
        FoldKnock(stored.data(), *LoadableDType(stored.dtype), *task.knock, tensor->view());
    if (result.num_overflows > 0 || result.num_non_finite > 0) return NotFinite(task, result);
    Report(stored.num_bytes);
    return tensor;
  }

  // Rows of 8-bit integers, from the numbers that are stored or, where there is a knock, folded.
  absl::StatusOr<Tensor> Quantize(const Task& task) {
    const StoredTensor& stored = *task.stored;
    absl::StatusOr<Tensor> folded = Tensor();
    if (task.knock) {
      Task exact = task;
      exact.dtype = DType::kF32;
      folded = Fold(exact);
      if (!folded.ok()) return folded.status();
    }
    const int64_t k = task.shape[1];
    absl::StatusOr<Tensor> tensor = AllocateInt8Rows(task.shape[0], k);
    if (!tensor.ok()) return tensor.status();
    const DType from = *LoadableDType(stored.dtype);
    const int64_t row_bytes = k * DTypeSize(from);
    const int64_t rows_per_report = std::max<int64_t>(1, kChunkBytes / row_bytes);
    std::vector<float> row(k);
    for (int64_t i = 0; i < task.shape[0]; ++i) {
      const ConversionResult result =
          task.knock
              ? ConvertDType(folded->view().row<float>(i), DType::kF32, row.data(), DType::kF32, k)
              : ConvertDType(stored.data() + i * row_bytes, from, row.data(), DType::kF32, k);
      if (result.num_non_finite > 0) return NotFinite(task, result);
      QuantizeRow(row.data(), k, tensor->view().row<int8_t>(i));
      const int64_t done = i + 1;
      if (task.knock) continue;  // told by Fold
      if (done % rows_per_report == 0) Report(rows_per_report * row_bytes);
      if (done == task.shape[0]) Report(done % rows_per_report * row_bytes);
    }
    return tensor;
  }

  static absl::Status NotFinite(const Task& task, const ConversionResult& result) {
    return absl::InvalidArgumentError(Mismatch(
        task.stored->file->path(), ShownName(task.stored->name),
        absl::StrCat("finite values in ", std::string(DTypeName(task.dtype))),
        result.num_overflows > 0 ? absl::StrCat(result.num_overflows, " beyond its range")
                                 : absl::StrCat(result.num_non_finite, " infinite or NaN")));
  }

  static void Reorder(const Task& task, float* elements) {
    const auto& [a, b, c] = task.dims;
    const std::vector<float> stored(elements, elements + a * b * c);
    const std::array<int64_t, 3> stride = {b * c, c, 1};
    const auto& [x, y, z] = task.order;
    for (int64_t i = 0; i < task.dims[x]; ++i) {
      for (int64_t j = 0; j < task.dims[y]; ++j) {
        for (int64_t k = 0; k < task.dims[z]; ++k) {
          *elements++ = stored[i * stride[x] + j * stride[y] + k * stride[z]];
        }
      }
    }
  }

  std::vector<Tensor> temporary_;
  const bool prefault_;
  const LoadProgress& progress_;
  const int64_t bytes_total_;
  int64_t bytes_done_ = 0;
};

absl::Status CheckOptions(const LoadOptions& options) {
  const DType wanted = options.weight_dtype.value_or(DType::kF32);
  if (wanted == DType::kF32 || wanted == DType::kBf16 || wanted == DType::kF16 ||
      wanted == DType::kI8) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "weight dtype: expected f32, bf16, f16 or int8, found ", std::string(DTypeName(wanted))));
}

}  // namespace

absl::StatusOr<int64_t> PlannedWeightBytes(const Checkpoint& checkpoint,
                                           const LoadOptions& options) {
  if (absl::Status status = CheckOptions(options); !status.ok()) return status;
  ModelWeights weights;
  Plan plan(checkpoint, options);
  if (absl::Status status = plan.Make(weights); !status.ok()) return status;
  int64_t bytes = 0;
  for (const Task& task : plan.tasks()) {
    if (task.is_temporary) continue;
    if (task.dtype == DType::kI8) {
      bytes += task.shape[0] * Int8RowStride(task.shape[1]);
      continue;
    }
    int64_t elements = 1;
    for (const int64_t extent : task.shape) elements *= extent;
    bytes += elements * DTypeSize(task.dtype);
  }
  return bytes;
}

absl::StatusOr<ModelWeights> LoadWeights(const Checkpoint& checkpoint, const LoadOptions& options,
                                         const LoadProgress& progress) {
  if (absl::Status status = CheckOptions(options); !status.ok()) return status;
  ModelWeights weights;
  Plan plan(checkpoint, options);
  if (absl::Status status = plan.Make(weights); !status.ok()) return status;

  int64_t bytes_total = 0;
  for (const Task& task : plan.tasks()) bytes_total += task.stored->num_bytes;
  Loader loader(options.prefault, progress, bytes_total);
  loader.Report(0);
  for (const Task& task : plan.tasks()) {
    if (absl::Status status = loader.Load(task, weights); !status.ok()) return status;
  }
  if (checkpoint.config.tie_word_embeddings) weights.lm_head = weights.embedding;
  return weights;
}

}  // namespace mea
