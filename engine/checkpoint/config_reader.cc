#include "engine/checkpoint/config_reader.h"

#include <algorithm>
#include <array>

#include "absl/strings/str_cat.h"
#include "engine/attention/registry.h"
#include "engine/checkpoint/packed_reader.h"
#include "engine/family/family.h"
#include "engine/family/rope_reader.h"
#include "engine/family/window_reader.h"
#include "engine/storage/field_reader.h"
#include "engine/storage/file.h"
#include "engine/storage/json.h"
#include "kernels/status_macros.h"

namespace mea {
namespace {

using nlohmann::json;

// Bounds far above any published model and low enough that no product of three overflows int64.
constexpr IntRange kHiddenRange{1, 1 << 17};
constexpr IntRange kFfnRange{1, 1 << 20};
constexpr IntRange kVocabRange{1, 1 << 24};
constexpr IntRange kLayerRange{1, 4096};
constexpr IntRange kHeadRange{1, 4096};
constexpr IntRange kHeadDimRange{2, 4096};
constexpr IntRange kExpertRange{1, 4096};
constexpr IntRange kPositionRange{1, 1 << 30};
constexpr NumberRange kEpsRange{0.0, 1.0};

// Fields of related models that change what the layers compute but not the tensors. They may be
// absent, null or neutral.
struct UnsupportedField {
  const char* name;
  std::optional<double> neutral = std::nullopt;
};
constexpr std::array<UnsupportedField, 9> kUnsupportedFields = {{
    {"attn_logit_softcapping"},
    {"final_logit_softcapping"},
    {"query_pre_attn_scalar"},
    {"clip_qkv"},
    {"attention_multiplier"},
    {"partial_rotary_factor", 1.0},  // of families that read it with RoPE
    {"embedding_multiplier", 1.0},
    {"residual_multiplier", 1.0},
    {"logits_scaling", 1.0},
}};

// Settles model_type and base_model_type; null after a refusal.
const Family* ReadFamily(FieldReader& in, ModelConfig& config) {
  config.model_type = in.String("model_type");
  const bool mea = config.model_type == "mea";
  const char* field = mea ? "base_model_type" : "model_type";
  config.base_model_type = mea ? in.String("base_model_type") : config.model_type;
  if (!in.status().ok()) return nullptr;
  const Family* family = FindFamily(config.base_model_type);
  if (family == nullptr) {
    in.Refuse(field, absl::StrCat("one of ", FamilyNames(), mea ? "" : ", mea"),
              ShownName(config.base_model_type));
  }
  if (!mea && in.Has("head_composition")) {
    in.Refuse("head_composition", "no such field unless model_type is \"mea\"", "an object");
  }
  return family;
}

void RefuseUnsupportedFields(FieldReader& in, const Family& family) {
  for (const UnsupportedField& field : kUnsupportedFields) {
    if (std::find(family.own_fields.begin(), family.own_fields.end(), field.name) !=
        family.own_fields.end()) {
      continue;
    }
    const json* value = in.Get(field.name);
    if (value == nullptr) continue;
    if (field.neutral && value->is_number() && value->get<double>() == *field.neutral) continue;
    in.RefuseValue(field.name,
                   field.neutral ? absl::StrCat("nothing or ", *field.neutral) : "no such field",
                   *value);
  }
  const std::string field(family.activation_field);
  const bool is_gelu = family.layers.activation == Activation::kGeluTanh;
  const std::string wanted = is_gelu ? "gelu_pytorch_tanh" : "silu";
  const std::string act = in.String(field.c_str(), wanted);
  if (act != wanted && (is_gelu || act != "swish")) {
    in.Refuse(field, absl::StrCat("\"", wanted, "\""), ShownName(act));
  }
}

void ReadSizes(FieldReader& in, const Family& family, ModelConfig& config) {
  config.hidden_size = in.Int("hidden_size", kHiddenRange);
  config.num_layers = in.Int("num_hidden_layers", kLayerRange);
  config.q_heads = in.Int("num_attention_heads", kHeadRange);
  config.ffn_size = in.Int("intermediate_size", kFfnRange);
  config.vocab_size = in.Int("vocab_size", kVocabRange);
  config.max_position = in.Int(
      "max_position_embeddings", kPositionRange,
      family.default_max_position > 0 ? std::optional(family.default_max_position) : std::nullopt);

  const bool one_per_query_head = family.default_kv_heads == 0 || in.IsNull("num_key_value_heads");
  config.kv_heads = in.Int("num_key_value_heads", {1, config.q_heads},
                           one_per_query_head ? config.q_heads : family.default_kv_heads);
  if (in.status().ok() &&
      (config.kv_heads > config.q_heads || config.q_heads % config.kv_heads != 0)) {
    in.Refuse("num_key_value_heads",
              absl::StrCat("a divisor of num_attention_heads ", config.q_heads),
              absl::StrCat(config.kv_heads));
  }

  const bool derived = !in.Has("head_dim") && family.default_head_dim == 0;
  if (derived && config.hidden_size % config.q_heads != 0) {
    in.Refuse("head_dim",
              absl::StrCat("an integer, since hidden_size ", config.hidden_size,
                           " is not a multiple of num_attention_heads ", config.q_heads),
              "no such field");
  }
  config.head_dim = derived ? config.hidden_size / config.q_heads
                            : in.Int("head_dim", kHeadDimRange, family.default_head_dim);
  if (in.status().ok() && (config.head_dim < 2 || config.head_dim % 2 != 0)) {
    in.Refuse("head_dim", "an even number, as rotary embedding needs",
              absl::StrCat(config.head_dim));
  }
}

void ReadDetails(FieldReader& in, const Family& family, ModelConfig& config) {
  config.rms_norm_eps =
      static_cast<float>(in.Number("rms_norm_eps", kEpsRange, family.default_eps));
  config.tie_word_embeddings = in.Bool("tie_word_embeddings", family.default_tie);
  const bool attention_bias = family.reads_attention_bias && in.Bool("attention_bias", false);
  config.qkv_bias = family.always_qkv_bias || attention_bias;
  config.o_bias = attention_bias;
  config.mlp_bias = family.reads_mlp_bias && in.Bool("mlp_bias", false);
  config.layers = family.layers;

  const std::string dtype = in.String("dtype", in.String("torch_dtype", ""));
  if (dtype == "float32") config.dtype = DType::kF32;
  if (dtype == "bfloat16") config.dtype = DType::kBf16;
  if (dtype == "float16") config.dtype = DType::kF16;
  if (!dtype.empty() && !config.dtype) {
    in.Refuse(in.Has("dtype") ? "dtype" : "torch_dtype", "float32, bfloat16 or float16",
              ShownName(dtype));
  }

  const IntRange token_range{0, config.vocab_size - 1};
  const std::vector<int> bos = in.IntOrList("bos_token_id", token_range);
  if (!bos.empty()) config.bos_token_id = bos.front();
  config.eos_token_ids = in.IntOrList("eos_token_id", token_range);
}

// Which layers have experts, by decoder_sparse_step and mlp_only_layers.
std::vector<bool> ReadSparseLayers(FieldReader& in, int num_layers) {
  const int step = in.Int("decoder_sparse_step", kLayerRange, 1);
  std::vector<bool> sparse(num_layers);
  for (int layer = 0; layer < num_layers; ++layer) sparse[layer] = (layer + 1) % step == 0;
  const json* dense = in.Get("mlp_only_layers");
  if (dense != nullptr && !dense->is_array()) {
    in.RefuseValue("mlp_only_layers", "a list of layers", *dense);
  }
  for (const int layer : in.IntOrList("mlp_only_layers", {0, num_layers - 1})) {
    sparse[layer] = false;
  }
  return sparse;
}

void ReadExperts(FieldReader& in, const Family& family, ModelConfig& config) {
  if (family.experts == ExpertRule::kNone) return;
  const bool qwen = family.experts == ExpertRule::kQwen;
  // Since transformers 5 both families use num_local_experts.
  const char* count = in.Has("num_local_experts") || !qwen ? "num_local_experts" : "num_experts";
  MoeConfig& moe = config.moe;
  moe.num_experts = in.Int(count, kExpertRange, qwen ? 128 : 8);
  moe.top_k = in.Int("num_experts_per_tok", {1, moe.num_experts}, qwen ? 8 : 2);
  moe.ffn_size = qwen ? in.Int("moe_intermediate_size", kFfnRange, 768) : config.ffn_size;
  moe.renormalise = qwen ? in.Bool("norm_topk_prob", false) : true;
  if (in.status().ok() && moe.top_k > moe.num_experts) {
    in.Refuse("num_experts_per_tok", absl::StrCat("at most ", count, " ", moe.num_experts),
              absl::StrCat(moe.top_k, ", its default"));
  }
  if (qwen) {
    config.sparse_layers = ReadSparseLayers(in, config.num_layers);
  } else {
    config.sparse_layers.assign(config.num_layers, true);
  }
}

}  // namespace

absl::StatusOr<ModelConfig> ParseModelConfig(std::string_view text, const std::string& file) {
  MEA_ASSIGN_OR_RETURN(const json document, ParseJson(text, file));
  FieldReader in(document, file);
  ModelConfig config;
  const Family* family = ReadFamily(in, config);
  if (family == nullptr) return in.status();
  RefuseUnsupportedFields(in, *family);
  ReadSizes(in, *family, config);
  if (!in.status().ok()) return in.status();  // the following code relies on the sizes

  ReadDetails(in, *family, config);
  ReadWindows(in, *family, config);
  ReadExperts(in, *family, config);
  config.packed = ReadPackedFormat(in);
  if (family->reads_rope) {
    config.rope = ReadRope(in, config,
                           {.theta = family->default_theta,
                            .may_be_partial = family->may_be_long_rope,
                            .may_be_long = family->may_be_long_rope});
  }
  if (family->read != nullptr) family->read(in, config);
  if (!in.status().ok()) return in.status();
  config.layer_heads.assign(config.num_layers, {config.kv_heads, config.kv_heads});
  if (config.model_type == "mea") {
    in.Fail(ReadHeadComposition(in.Object("head_composition"), config));
  }
  if (!in.status().ok()) return in.status();
  return config;
}

absl::StatusOr<ModelConfig> ReadModelConfig(const std::filesystem::path& file) {
  MEA_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(file));
  return ParseModelConfig(text, file.string());
}

}  // namespace mea
