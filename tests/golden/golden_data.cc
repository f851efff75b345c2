#include "tests/golden/golden_data.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "absl/strings/escaping.h"
#include "kernels/check.h"
#include "tests/golden/seeded_weights.h"
#include "tests/support/checkpoint_writer.h"

namespace mea::golden {
namespace {

using Json = nlohmann::json;

const std::filesystem::path kDir = MEA_SOURCE_DIR "/tests/golden";

std::ifstream Open(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  MEA_CHECK(in.good());
  return in;
}

// Base64 of little-endian T, widened to double.
template <typename T>
std::vector<double> DecodeFloats(const Json& text) {
  std::string bytes;
  MEA_CHECK(absl::Base64Unescape(text.get<std::string>(), &bytes));
  std::vector<T> values(bytes.size() / sizeof(T));
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(T));
  return {values.begin(), values.end()};
}

// Every tensor that checkpoint "config" has, but for W_lc listed in "absent": the twin of
// tensor_shapes in make_random_models.py.
class TensorLister {
 public:
  explicit TensorLister(const Json& line) : line_(line), config_(line["config"]) {}

  std::vector<NamedShape> List() {
    const int64_t vocab = config_["vocab_size"];
    Add("model.embed_tokens", {vocab, hidden_});
    const int num_layers = config_["num_hidden_layers"];
    for (int layer = 0; layer < num_layers; ++layer) AddLayer(layer);
    Add("model.norm", {hidden_});
    if (!config_["tie_word_embeddings"]) Add("lm_head", {vocab, hidden_});
    return std::move(tensors_);
  }

 private:
  void AddLayer(int layer) {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    const bool mlp_bias = config_.value("mlp_bias", false);
    const int64_t ffn = config_["intermediate_size"];
    Add(prefix + "input_layernorm", {hidden_});
    AddAttention(prefix + "self_attn.", layer);
    Add(prefix + "post_attention_layernorm", {hidden_});
    AddLinear(prefix + "mlp.gate_proj", ffn, hidden_, mlp_bias);
    AddLinear(prefix + "mlp.up_proj", ffn, hidden_, mlp_bias);
    AddLinear(prefix + "mlp.down_proj", hidden_, ffn, mlp_bias);
  }

  void AddAttention(const std::string& prefix, int layer) {
    const int64_t key_heads = ComponentHeads("num_component_key_heads", layer);
    const int64_t value_heads = ComponentHeads("num_component_value_heads", layer);
    const std::string model_type = config_["model_type"];
    const std::string base = config_.value("base_model_type", model_type);
    const int64_t d = config_["head_dim"];
    const int64_t q_size = config_["num_attention_heads"].get<int64_t>() * d;
    const bool o_bias = config_.value("attention_bias", false);
    const bool qkv_bias = o_bias || base == "qwen2";
    AddLinear(prefix + "q_proj", q_size, hidden_, qkv_bias);
    AddLinear(prefix + "k_proj", key_heads * d, hidden_, qkv_bias);
    AddLinear(prefix + "v_proj", value_heads * d, hidden_, qkv_bias);
    AddLinear(prefix + "o_proj", hidden_, q_size, o_bias);
    const std::string kind = Composition("kind", model_type == "mea" ? "mea" : "none");
    if (kind == "mea") {
      Add(prefix + "k_hlc", {key_heads, kv_heads_});
      Add(prefix + "v_hlc", {value_heads, kv_heads_});
    }
    if (kind == "kha") AddKnocks(prefix, d);
    if (kind == "iha") AddPseudoHeads(prefix, layer);
    if (base == "qwen3") {
      Add(prefix + "q_norm", {d});
      Add(prefix + "k_norm", {d});
    }
    const int64_t head_norm_len = line_["head_norm_len"];
    if (head_norm_len > 0) Add(prefix + "head_norm", {head_norm_len});
  }

  // h'_K or h'_V of a layer: one number for all, or a list.
  int64_t ComponentHeads(const char* field, int layer) const {
    if (Composition("kind", "none") != "mea") return kv_heads_;
    const Json& heads = config_["head_composition"][field];
    return heads.is_array() ? heads[layer] : heads;
  }

  std::string Composition(const char* field, const std::string& fallback) const {
    const auto composition = config_.find("head_composition");
    return composition == config_.end() ? fallback : composition->value(field, fallback);
  }

  void AddKnocks(const std::string& prefix, int64_t d) {
    for (const char* name : {"q", "k", "v", "v_up", "v_gate", "v_down"}) {
      const bool is_linear = std::string_view(name).size() == 1;
      if (is_linear != (Composition("knock", "") == "linear")) continue;
      Add(prefix + "knock_" + name, {d, d});
    }
  }

  void AddPseudoHeads(const std::string& prefix, int layer) {
    const Json& composition = config_["head_composition"];
    const Json& windows = composition["layer_windows"];
    if (windows[layer % windows.size()] == 0) return;
    const int64_t pseudo_heads = composition["num_pseudo_heads"];
    for (const char* name : {"iha_q", "iha_k", "iha_v"}) {
      tensors_.push_back({prefix + name, {kv_heads_, kv_heads_, pseudo_heads}});
    }
    Add(prefix + "iha_collapse", {kv_heads_, kv_heads_ * pseudo_heads});
  }

  void AddLinear(const std::string& name, int64_t rows, int64_t columns, bool bias) {
    Add(name, {rows, columns});
    if (bias) tensors_.push_back({name + ".bias", {rows}});
  }

  void Add(const std::string& name, std::vector<int64_t> shape) {
    const Json& absent = line_["absent"];
    if (std::find(absent.begin(), absent.end(), name + ".weight") != absent.end()) return;
    tensors_.push_back({name + ".weight", std::move(shape)});
  }

  const Json& line_;
  const Json& config_;
  const int64_t hidden_ = config_["hidden_size"];
  const int64_t kv_heads_ = config_["num_key_value_heads"];
  std::vector<NamedShape> tensors_;
};

std::vector<NamedShape> TensorsOf(const Json& line) {
  const auto listed = line.find("tensors");
  if (listed == line.end()) return TensorLister(line).List();
  std::vector<NamedShape> tensors;
  for (const Json& tensor : *listed) tensors.push_back({tensor[0], tensor[1]});
  return tensors;
}

}  // namespace

std::vector<RandomModel> LoadRandomModels(const std::string& file) {
  std::vector<RandomModel> models;
  std::ifstream in = Open(kDir / file);
  for (std::string text; std::getline(in, text);) {
    const Json line = Json::parse(text);
    models.push_back({
        .name = line.value("name", ""),
        .seed = line["seed"],
        .config_json = line["config"].dump(),
        .tensors = TensorsOf(line),
        .weights_checksum = std::stoull(line["weights_checksum"].get<std::string>(), nullptr, 16),
        .prompt = line["prompt"],
        .logits = DecodeFloats<double>(line["logits_f64"]),
        .middle = line["middle"],
        .middle_logits = DecodeFloats<double>(line["middle_logits_f64"]),
        .bf16_logits = DecodeFloats<float>(line["bf16_logits_f32"]),
        .greedy = line["greedy"],
        .min_margin = line["min_margin"],
    });
  }
  return models;
}

void WriteCheckpoint(const std::filesystem::path& dir, const RandomModel& model, DType dtype) {
  std::vector<testing::RawTensor> tensors;
  for (const NamedShape& t : model.tensors) {
    tensors.push_back(
        testing::MakeTensor(t.name, dtype, t.shape, SeededTensor(model.seed, t.name, t.shape)));
  }
  std::filesystem::create_directories(dir);
  testing::WriteText(dir / "config.json", model.config_json);
  testing::WriteSafeTensors(dir / "model.safetensors", tensors);
}

std::vector<SavedModel> LoadSavedModels(const std::string& set) {
  const Json golden = Json::parse(Open(kDir / set / "golden.json"));
  std::vector<SavedModel> models;
  for (const Json& model : golden["models"]) {
    const std::string name = model["name"];
    models.push_back({
        .name = name,
        .dir = kDir / set / name,
        .prompt = model["prompt"],
        .logits = DecodeFloats<float>(model["logits_f32"]),
        .greedy = model["greedy"],
        .min_margin = model["min_margin"],
    });
  }
  return models;
}

double RelativeError(const std::vector<double>& a, const std::vector<double>& b) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  if (a.size() != b.size()) return kInfinity;
  double difference = 0;
  double norm = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    norm += b[i] * b[i];
  }
  const double error = std::sqrt(difference / norm);
  return std::isfinite(error) ? error : kInfinity;
}

}  // namespace mea::golden
