#include "tests/support/checkpoint_writer.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <random>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "kernels/check.h"

namespace mea::testing {
namespace {

namespace fs = std::filesystem;

template <typename T>
void AppendBytes(T value, std::string& bytes) {
  char raw[sizeof(T)];
  std::memcpy(raw, &value, sizeof(T));
  bytes.append(raw, sizeof(T));
}

std::string HeaderName(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "F32";
    case DType::kBf16:
      return "BF16";
    case DType::kF16:
      return "F16";
    default:
      MEA_CHECK(!"a float format of checkpoints");
  }
  return "";
}

std::string HeaderJson(std::span<const RawTensor> tensors) {
  std::vector<std::string> entries = {R"("__metadata__":{"format":"pt"})"};
  size_t offset = 0;
  for (const RawTensor& tensor : tensors) {
    entries.push_back(absl::StrFormat(R"("%s":{"dtype":"%s","shape":[%s],"data_offsets":[%d,%d]})",
                                      tensor.name, tensor.dtype, absl::StrJoin(tensor.shape, ","),
                                      offset, offset + tensor.bytes.size()));
    offset += tensor.bytes.size();
  }
  std::string header = absl::StrCat("{", absl::StrJoin(entries, ","), "}");
  header.resize((header.size() + 7) / 8 * 8, ' ');  // keeps the data aligned, as everybody does
  return header;
}

// Draws the tensors of one model. Uniform numbers from the generator's bits: the standard library's
// distributions differ from one implementation to the next.
class TensorGenerator {
 public:
  TensorGenerator(const RandomCheckpointSpec& spec, uint64_t seed) : spec_(spec), random_(seed) {}

  std::vector<RawTensor> Model() {
    const int64_t hidden = spec_.hidden_size;
    Add("model.embed_tokens.weight", {spec_.vocab_size, hidden}, 0.0f, 1.0f);
    for (int layer = 0; layer < spec_.num_layers; ++layer) Layer(layer);
    Gain("model.norm.weight", hidden);
    if (!spec_.tie_word_embeddings) Matrix("lm_head.weight", spec_.vocab_size, hidden);
    return std::move(tensors_);
  }

 private:
  void Layer(int layer) {
    const std::string prefix = absl::StrCat("model.layers.", layer, ".");
    const int64_t hidden = spec_.hidden_size;
    Gain(prefix + "input_layernorm.weight", hidden);
    Attention(layer, prefix + "self_attn.");
    Gain(prefix + "post_attention_layernorm.weight", hidden);
    if (IsSparse(layer)) return Experts(prefix);
    const bool bias = spec_.mlp_bias && spec_.base_model_type == "llama";
    Linear(prefix + "mlp.gate_proj", spec_.ffn_size, hidden, bias);
    Linear(prefix + "mlp.up_proj", spec_.ffn_size, hidden, bias);
    Linear(prefix + "mlp.down_proj", hidden, spec_.ffn_size, bias);
  }

  bool IsSparse(int layer) const {
    if (spec_.base_model_type == "mixtral") return true;
    return spec_.base_model_type == "qwen3_moe" &&
           std::count(spec_.dense_layers.begin(), spec_.dense_layers.end(), layer) == 0;
  }

  void Experts(const std::string& prefix) {
    const bool mixtral = spec_.base_model_type == "mixtral";
    const std::string block = prefix + (mixtral ? "block_sparse_moe." : "mlp.");
    const int64_t hidden = spec_.hidden_size;
    const int64_t ffn = mixtral ? spec_.ffn_size : spec_.expert_ffn_size;
    Matrix(block + "gate.weight", spec_.num_experts, hidden);
    for (int e = 0; e < spec_.num_experts; ++e) {
      const std::string name = absl::StrCat(block, "experts.", e, ".");
      Matrix(name + (mixtral ? "w1.weight" : "gate_proj.weight"), ffn, hidden);
      Matrix(name + (mixtral ? "w2.weight" : "down_proj.weight"), hidden, ffn);
      Matrix(name + (mixtral ? "w3.weight" : "up_proj.weight"), ffn, hidden);
    }
  }

  void Attention(int layer, const std::string& prefix) {
    const std::string& base = spec_.base_model_type;
    const bool qk_norm = base == "qwen3" || base == "qwen3_moe";
    const bool bias = spec_.attention_bias && (base == "llama" || qk_norm);
    const int64_t hidden = spec_.hidden_size;
    const int64_t d = spec_.head_dim;
    const int64_t q_size = spec_.q_heads * d;
    const int key_heads = ComponentHeads(spec_.key_heads, layer);
    const int value_heads = ComponentHeads(spec_.value_heads, layer);
    Linear(prefix + "q_proj", q_size, hidden, bias || base == "qwen2");
    Linear(prefix + "k_proj", key_heads * d, hidden, bias || base == "qwen2");
    Linear(prefix + "v_proj", value_heads * d, hidden, bias || base == "qwen2");
    Linear(prefix + "o_proj", hidden, q_size, bias);
    if (qk_norm) {
      Gain(prefix + "q_norm.weight", d);
      Gain(prefix + "k_norm.weight", d);
    }
    if (!spec_.mea) return;
    if (!spec_.knock.empty()) return Knocks(prefix);
    if (spec_.pseudo_heads > 0) {
      const std::vector<int>& windows = spec_.layer_windows;
      if (windows[layer % windows.size()] > 0) PseudoHeads(prefix);
      return;
    }
    Mix(prefix + "k_hlc.weight", key_heads);
    Mix(prefix + "v_hlc.weight", value_heads);
    if (spec_.head_norm == HeadNormGain::kPerDim) Gain(prefix + "head_norm.weight", d);
    if (spec_.head_norm == HeadNormGain::kPerHead) Gain(prefix + "head_norm.weight", q_size);
  }

  void Knocks(const std::string& prefix) {
    const std::vector<std::string> names =
        spec_.knock == "mlp"
            ? std::vector<std::string>{"knock_v_up", "knock_v_gate", "knock_v_down"}
            : std::vector<std::string>{"knock_q", "knock_k", "knock_v"};
    for (const std::string& name : names) {
      Matrix(absl::StrCat(prefix, name, ".weight"), spec_.head_dim, spec_.head_dim);
    }
  }

  void PseudoHeads(const std::string& prefix) {
    const int64_t h = spec_.kv_heads;
    const float deviation = 1.0f / std::sqrt(static_cast<float>(h));
    for (const char* name : {"iha_q", "iha_k", "iha_v"}) {
      Add(prefix + name, {h, h, spec_.pseudo_heads}, 0.0f, deviation);
    }
    Matrix(prefix + "iha_collapse.weight", h, h * spec_.pseudo_heads);
  }

  int ComponentHeads(const std::vector<int>& heads, int layer) const {
    if (!spec_.mea || heads.empty()) return spec_.kv_heads;
    return heads.size() == 1 ? heads[0] : heads[layer];
  }

  void Mix(const std::string& name, int components) {
    if (components == spec_.kv_heads && !spec_.write_identity_mix) return;
    Add(name, {components, spec_.kv_heads}, 0.0f, 1.0f / std::sqrt(static_cast<float>(components)));
  }

  void Linear(const std::string& name, int64_t out, int64_t in, bool bias) {
    Matrix(name + ".weight", out, in);
    if (bias) Add(name + ".bias", {out}, 0.0f, 0.2f);
  }
  void Matrix(const std::string& name, int64_t out, int64_t in) {
    Add(name, {out, in}, 0.0f, 1.0f / std::sqrt(static_cast<float>(in)));
  }
  void Gain(const std::string& name, int64_t size) { Add(name, {size}, 1.0f, 0.2f); }

  void Add(const std::string& name, std::vector<int64_t> shape, float mean, float deviation) {
    int64_t count = 1;
    for (const int64_t extent : shape) count *= extent;
    std::vector<float> values(count);
    for (float& value : values) {
      const double uniform = static_cast<double>(random_() >> 11) * 0x1p-52 - 1.0;  // [-1, 1)
      value = mean + deviation * static_cast<float>(std::sqrt(3.0) * uniform);
    }
    tensors_.push_back(MakeTensor(name, spec_.dtype, std::move(shape), values));
  }

  const RandomCheckpointSpec& spec_;
  std::mt19937_64 random_;
  std::vector<RawTensor> tensors_;
};

std::string HeadsJson(const std::vector<int>& heads, int kv_heads) {
  if (heads.empty()) return absl::StrCat(kv_heads);
  if (heads.size() == 1) return absl::StrCat(heads[0]);
  return absl::StrCat("[", absl::StrJoin(heads, ","), "]");
}

std::string HeadCompositionJson(const RandomCheckpointSpec& spec) {
  if (!spec.knock.empty()) return absl::StrFormat(R"({"kind":"kha","knock":"%s"})", spec.knock);
  if (spec.pseudo_heads > 0) {
    return absl::StrFormat(R"({"kind":"iha","num_pseudo_heads":%d,"layer_windows":[%s]})",
                           spec.pseudo_heads, absl::StrJoin(spec.layer_windows, ","));
  }
  return absl::StrFormat(
      R"({"kind":"mea","num_component_key_heads":%s,"num_component_value_heads":%s,)"
      R"("head_norm":"%s","head_norm_eps":1e-5})",
      HeadsJson(spec.key_heads, spec.kv_heads), HeadsJson(spec.value_heads, spec.kv_heads),
      spec.head_norm == HeadNormGain::kNone ? "none" : "rms");
}

const char* TorchName(DType dtype) {
  return dtype == DType::kF32 ? "float32" : dtype == DType::kBf16 ? "bfloat16" : "float16";
}

std::string ExpertsJson(const RandomCheckpointSpec& spec) {
  if (spec.base_model_type == "mixtral") {
    return absl::StrFormat(R"("num_local_experts":%d,"num_experts_per_tok":%d)", spec.num_experts,
                           spec.experts_per_token);
  }
  return absl::StrFormat(R"("num_experts":%d,"num_experts_per_tok":%d,"moe_intermediate_size":%d,)"
                         R"("norm_topk_prob":true,"decoder_sparse_step":1,"mlp_only_layers":[%s])",
                         spec.num_experts, spec.experts_per_token, spec.expert_ffn_size,
                         absl::StrJoin(spec.dense_layers, ","));
}

const char* Bool(bool value) { return value ? "true" : "false"; }

}  // namespace

RawTensor MakeTensor(std::string name, DType dtype, std::vector<int64_t> shape,
                     std::span<const float> values) {
  RawTensor tensor{std::move(name), HeaderName(dtype), std::move(shape), {}};
  for (const float value : values) {
    if (dtype == DType::kF32) AppendBytes(value, tensor.bytes);
    if (dtype == DType::kBf16) AppendBytes(ToBf16(value).bits, tensor.bytes);
    if (dtype == DType::kF16) AppendBytes(ToF16(value).bits, tensor.bytes);
  }
  return tensor;
}

void WriteText(const fs::path& file, std::string_view text) {
  // A new file each time: the old one may be mapped, and must not change under its readers.
  fs::remove(file);
  std::ofstream out(file, std::ios::binary);
  out.write(text.data(), static_cast<std::streamsize>(text.size()));
  out.close();
  MEA_CHECK(out.good());
}

std::string ReadText(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  MEA_CHECK(in.good());
  return {std::istreambuf_iterator<char>(in), {}};
}

std::string SafeTensorsBytes(std::string_view header, std::string_view data) {
  std::string bytes;
  AppendBytes(static_cast<uint64_t>(header.size()), bytes);
  bytes.append(header);
  bytes.append(data);
  return bytes;
}

void WriteSafeTensors(const fs::path& file, std::span<const RawTensor> tensors) {
  std::string data;
  for (const RawTensor& tensor : tensors) data += tensor.bytes;
  WriteText(file, SafeTensorsBytes(HeaderJson(tensors), data));
}

void WriteShards(const fs::path& dir, std::span<const RawTensor> tensors, int num_shards) {
  std::vector<std::string> weight_map;
  for (int shard = 0; shard < num_shards; ++shard) {
    const size_t first = tensors.size() * shard / num_shards;
    const size_t last = tensors.size() * (shard + 1) / num_shards;
    const std::string name =
        absl::StrFormat("model-%05d-of-%05d.safetensors", shard + 1, num_shards);
    WriteSafeTensors(dir / name, tensors.subspan(first, last - first));
    for (size_t i = first; i < last; ++i) {
      weight_map.push_back(absl::StrFormat(R"("%s":"%s")", tensors[i].name, name));
    }
  }
  WriteText(dir / "model.safetensors.index.json",
            absl::StrCat(R"({"metadata":{},"weight_map":{)", absl::StrJoin(weight_map, ","), "}}"));
}

std::vector<RawTensor> RandomTensors(const RandomCheckpointSpec& spec, uint64_t seed) {
  return TensorGenerator(spec, seed).Model();
}

std::string ConfigJson(const RandomCheckpointSpec& spec) {
  std::vector<std::string> fields = {
      absl::StrFormat(R"("model_type":"%s")", spec.mea ? "mea" : spec.base_model_type),
      absl::StrFormat(R"("hidden_size":%d,"num_hidden_layers":%d)", spec.hidden_size,
                      spec.num_layers),
      absl::StrFormat(R"("num_attention_heads":%d,"num_key_value_heads":%d,"head_dim":%d)",
                      spec.q_heads, spec.kv_heads, spec.head_dim),
      absl::StrFormat(R"("intermediate_size":%d,"vocab_size":%d,"max_position_embeddings":%d)",
                      spec.ffn_size, spec.vocab_size, spec.max_position),
      absl::StrFormat(R"("tie_word_embeddings":%s,"attention_bias":%s,"mlp_bias":%s)",
                      Bool(spec.tie_word_embeddings), Bool(spec.attention_bias),
                      Bool(spec.mlp_bias)),
      absl::StrFormat(R"("hidden_act":"silu","rms_norm_eps":1e-5,"dtype":"%s")",
                      TorchName(spec.dtype)),
      absl::StrCat(R"("rope_parameters":)", spec.rope_parameters),
      absl::StrFormat(R"("bos_token_id":1,"eos_token_id":[%s])",
                      absl::StrJoin(spec.eos_token_ids, ",")),
  };
  if (spec.base_model_type == "mixtral" || spec.base_model_type == "qwen3_moe") {
    fields.push_back(ExpertsJson(spec));
  }
  if (spec.mea) {
    fields.push_back(absl::StrFormat(R"("base_model_type":"%s")", spec.base_model_type));
    fields.push_back(absl::StrCat(R"("head_composition":)", HeadCompositionJson(spec)));
  }
  fields.push_back(
      spec.sliding_window > 0
          ? absl::StrFormat(
                R"("use_sliding_window":true,"max_window_layers":0,"sliding_window":%d)",
                spec.sliding_window)
          : R"("use_sliding_window":false,"sliding_window":null)");
  return absl::StrCat("{", absl::StrJoin(fields, ",\n "), "}\n");
}

void WriteRandomCheckpoint(const fs::path& dir, const RandomCheckpointSpec& spec, uint64_t seed) {
  fs::create_directories(dir);
  WriteText(dir / "config.json", ConfigJson(spec));
  WriteText(dir / "generation_config.json",
            absl::StrFormat(R"({"bos_token_id":1,"eos_token_id":[%s]})",
                            absl::StrJoin(spec.eos_token_ids, ",")));
  const std::vector<RawTensor> tensors = RandomTensors(spec, seed);
  if (spec.num_shards > 1) {
    WriteShards(dir, tensors, spec.num_shards);
  } else {
    WriteSafeTensors(dir / "model.safetensors", tensors);
  }
}

TempDir::TempDir() {
  std::string name = (fs::temp_directory_path() / "mea_test_XXXXXX").string();
  MEA_CHECK(mkdtemp(name.data()) != nullptr);
  path_ = name;
}

TempDir::~TempDir() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

}  // namespace mea::testing
