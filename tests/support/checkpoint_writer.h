#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/dtype.h"

// Writes small checkpoints for tests. Failures to write abort: a test has no use for them.
namespace mea::testing {

// A tensor ready to be written: little-endian bytes and the header's words about them.
struct RawTensor {
  std::string name;
  std::string dtype;  // "F32", "BF16", ...
  std::vector<int64_t> shape;
  std::string bytes;
};

// Values rounded to `dtype` (f32, bf16, f16).
RawTensor MakeTensor(std::string name, DType dtype, std::vector<int64_t> shape,
                     std::span<const float> values);

void WriteText(const std::filesystem::path& file, std::string_view text);
std::string ReadText(const std::filesystem::path& file);
// The bytes of a safetensors file with this header and data, whatever they say.
std::string SafeTensorsBytes(std::string_view header, std::string_view data);
void WriteSafeTensors(const std::filesystem::path& file, std::span<const RawTensor> tensors);
// num_shards files of about equal tensor counts and their index.
void WriteShards(const std::filesystem::path& dir, std::span<const RawTensor> tensors,
                 int num_shards);

enum class HeadNormGain : uint8_t { kNone, kPerDim, kPerHead };  // none, [d], [H * d]

// A tiny random model. Defaults: GQA of the llama family; every field is one independent variation.
struct RandomCheckpointSpec {
  // "mistral", "mixtral", "qwen2", "qwen3", "qwen3_moe"
  std::string base_model_type = "llama";
  int hidden_size = 32;
  int num_layers = 2;
  int q_heads = 4;
  int kv_heads = 2;
  int head_dim = 8;
  int ffn_size = 48;
  int vocab_size = 64;
  int max_position = 256;
  bool tie_word_embeddings = false;
  bool attention_bias = false;  // llama, qwen3 and qwen3_moe: q, k, v, o
  bool mlp_bias = false;        // llama
  int sliding_window = 0;       // all but llama: every layer; 0 = none
  int num_experts = 4;          // mixtral, qwen3_moe
  int experts_per_token = 2;
  int expert_ffn_size = 16;       // qwen3_moe; mixtral's experts have ffn_size
  std::vector<int> dense_layers;  // qwen3_moe: layers without experts
  std::string rope_parameters = R"({"rope_type":"default","rope_theta":10000.0})";  // JSON

  // Head composition: with `mea` false the rest is not used.
  bool mea = false;
  std::vector<int> key_heads;      // h'_K per layer; one entry: of every layer; empty: kv_heads
  std::vector<int> value_heads;    // h'_V, likewise
  bool write_identity_mix = true;  // whether layers with h' = h carry a (random) W_lc
  HeadNormGain head_norm = HeadNormGain::kNone;
  std::string knock;               // "linear", "mlp": KHA instead of MEA
  int pseudo_heads = 0;            // IHA instead of MEA; with
  std::vector<int> layer_windows;  // repeated over the layers

  DType dtype = DType::kF32;
  int num_shards = 1;
  std::vector<int32_t> eos_token_ids = {2};
};

// The tensors and config.json of such a model: the same seed gives the same bytes on every machine.
std::vector<RawTensor> RandomTensors(const RandomCheckpointSpec& spec, uint64_t seed);
std::string ConfigJson(const RandomCheckpointSpec& spec);
// Creates `dir` and writes config.json, generation_config.json and the weights. No tokenizer.
void WriteRandomCheckpoint(const std::filesystem::path& dir, const RandomCheckpointSpec& spec,
                           uint64_t seed);

// A directory that is removed with its contents at the end of the test.
class TempDir {
 public:
  TempDir();
  ~TempDir();
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace mea::testing
