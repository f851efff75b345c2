#include "engine/convert/output.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "absl/strings/str_cat.h"
#include "engine/model/model_weights.h"
#include "engine/storage/convert_dtype.h"
#include "engine/storage/json.h"
#include "engine/storage/output_file.h"
#include "kernels/status_macros.h"

namespace mea::convert {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

// Rows of a tensor of the output: a matrix of a composed layer, in the order of the checkpoint.
struct Piece {
  Matrix LayerMatrices::*matrix = nullptr;
  std::vector<int> head_rows;  // TensorSpec::head_rows
};

// One tensor of the output: bytes of the input, or matrices of a composed layer below one another.
struct OutputTensor {
  std::string name;
  std::string dtype;
  std::vector<int64_t> shape;
  int64_t num_bytes = 0;
  const StoredTensor* copied = nullptr;  // null: composed
  int layer = 0;
  std::vector<Piece> pieces;
  DType storage = DType::kF32;
};

struct Shard {
  std::string file_name;
  std::vector<OutputTensor> tensors;
};

// A tensor of a layer that may change.
enum class PartOf : uint8_t { kKeys, kValues, kFeedForward };
struct Part {
  TensorView LayerWeights::*view;
  Matrix LayerMatrices::*matrix;
  PartOf block;     // keys and values change when they are composed
  bool is_fitted;   // and all fitted matrices when the layer is healed
  bool components;  // its rows become those of the components
  // W_lc follows it.
  const char* hlc = nullptr;
  Matrix LayerMatrices::*hlc_matrix = nullptr;
};

constexpr std::array<Part, 10> kParts = {{
    {&LayerWeights::q_proj, &LayerMatrices::q, PartOf::kKeys, true, false},
    {&LayerWeights::q_bias, &LayerMatrices::q_bias, PartOf::kKeys, false, false},
    {&LayerWeights::k_proj, &LayerMatrices::k, PartOf::kKeys, true, true, "k_hlc.weight",
     &LayerMatrices::k_hlc},
    {&LayerWeights::k_bias, &LayerMatrices::k_bias, PartOf::kKeys, false, true},
    {&LayerWeights::v_proj, &LayerMatrices::v, PartOf::kValues, true, true, "v_hlc.weight",
     &LayerMatrices::v_hlc},
    {&LayerWeights::v_bias, &LayerMatrices::v_bias, PartOf::kValues, false, true},
    {&LayerWeights::o_proj, &LayerMatrices::o, PartOf::kValues, true, false},
    {&LayerWeights::gate_proj, &LayerMatrices::gate, PartOf::kFeedForward, true, false},
    {&LayerWeights::up_proj, &LayerMatrices::up, PartOf::kFeedForward, true, false},
    {&LayerWeights::down_proj, &LayerMatrices::down, PartOf::kFeedForward, true, false},
}};

int64_t NumElements(const std::vector<int64_t>& shape) {
  int64_t count = 1;
  for (const int64_t extent : shape) count *= extent;
  return count;
}

// The composed tensors that the plan calls for, by the name of what they replace.
class Composed {
 public:
  Composed(const ModelConfig& config, const OutputPlan& plan)
      : config_(config), plan_(plan), list_(ListTensors(config, views_)) {
    // Queries and the output projection of an MEA checkpoint use virtual heads, which do not
    // change.
    const bool rebased = config.model_type == "mea";
    for (int layer = 0; layer < config.num_layers; ++layer) {
      for (const Part& part : kParts) {
        const TensorSpec* spec = list_.Find(views_.layers[layer].*part.view);
        if (spec == nullptr) continue;
        Entry& entry = entries_[spec->name];
        entry.layer = layer;
        entry.parts.push_back({&part, spec});
        const bool stays = rebased && !part.components;
        if (stays || !(Composes(part, layer) || Heals(part, layer))) continue;
        entry.changes = true;
        if (part.hlc != nullptr && Composes(part, layer))
          mixes_.insert(AttentionPrefix(layer) + part.hlc);
      }
    }
  }

  // The output for a tensor, followed by its W_lc. Empty for an old W_lc, which is replaced with
  // its projection.
  void AppendTo(const StoredTensor& stored, std::vector<OutputTensor>& out) const {
    if (mixes_.contains(stored.name)) return;
    OutputTensor tensor{.name = stored.name,
                        .dtype = StoredDTypeName(stored.dtype),
                        .shape = stored.shape,
                        .num_bytes = stored.num_bytes,
                        .copied = &stored};
    const auto found = entries_.find(stored.name);
    if (found == entries_.end() || !found->second.changes) {
      out.push_back(std::move(tensor));
      return;
    }
    const Entry& entry = found->second;
    tensor.copied = nullptr;
    tensor.layer = entry.layer;
    tensor.storage = *LoadableDType(stored.dtype);
    tensor.shape[0] = 0;
    std::vector<OutputTensor> mixes;
    for (const auto& [part, spec] : entry.parts) {
      const bool composes = part->components && Composes(*part, entry.layer);
      const int components = Components(*part, entry.layer);
      tensor.shape[0] += composes ? int64_t{components} * config_.head_dim : spec->shape[0];
      tensor.pieces.push_back({.matrix = part->matrix, .head_rows = spec->head_rows});
      if (!composes || part->hlc == nullptr) continue;
      mixes.push_back({.name = AttentionPrefix(entry.layer) + part->hlc,
                       .dtype = "F32",
                       .shape = {components, config_.kv_heads},
                       .num_bytes = int64_t{components} * config_.kv_heads * DTypeSize(DType::kF32),
                       .layer = entry.layer,
                       .pieces = {{.matrix = part->hlc_matrix}},
                       .storage = DType::kF32});
    }
    tensor.num_bytes = NumElements(tensor.shape) * DTypeSize(tensor.storage);
    out.push_back(std::move(tensor));
    std::move(mixes.begin(), mixes.end(), std::back_inserter(out));
  }

 private:
  struct Entry {
    int layer = 0;
    std::vector<std::pair<const Part*, const TensorSpec*>> parts;
    bool changes = false;
  };

  bool Composes(const Part& part, int layer) const {
    const LayerHeads& heads = plan_.heads[layer];
    return (part.block == PartOf::kKeys && heads.key_mix) ||
           (part.block == PartOf::kValues && heads.value_mix);
  }
  bool Heals(const Part& part, int layer) const {
    return part.is_fitted && !plan_.healed.empty() && plan_.healed[layer];
  }
  int Components(const Part& part, int layer) const {
    const LayerHeads& heads = plan_.heads[layer];
    return part.block == PartOf::kKeys ? heads.key_heads : heads.value_heads;
  }

  const ModelConfig& config_;
  const OutputPlan& plan_;
  ModelWeights views_;
  const TensorList list_;
  std::map<std::string, Entry, std::less<>> entries_;
  std::set<std::string> mixes_;
};

std::vector<Shard> PlanShards(const Checkpoint& in, const OutputPlan& plan) {
  const Composed composed(in.config, plan);
  std::map<std::string, std::vector<const StoredTensor*>> files;
  for (const auto& [name, stored] : in.tensors.tensors()) {
    files[fs::path(stored.file->path()).filename().string()].push_back(&stored);
  }
  std::vector<Shard> shards;
  for (auto& [file, tensors] : files) {
    std::sort(tensors.begin(), tensors.end(),
              [](const StoredTensor* a, const StoredTensor* b) { return a->offset < b->offset; });
    shards.push_back({.file_name = file});
    for (const StoredTensor* stored : tensors) composed.AppendTo(*stored, shards.back().tensors);
  }
  return shards;
}

// The length of the header, and the header, padded so that the data begins aligned.
std::string Header(const Shard& shard) {
  Json header = {{"__metadata__", {{"format", "pt"}}}};
  int64_t offset = 0;
  for (const OutputTensor& tensor : shard.tensors) {
    header[tensor.name] = {{"dtype", tensor.dtype},
                           {"shape", tensor.shape},
                           {"data_offsets", {offset, offset + tensor.num_bytes}}};
    offset += tensor.num_bytes;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const uint64_t size = text.size();
  std::string bytes(sizeof(size), '\0');
  std::memcpy(bytes.data(), &size, sizeof(size));
  return bytes + text;
}

// The rows of a piece as the checkpoint has them.
void AppendRows(const Matrix& matrix, const std::vector<int>& head_rows, std::vector<float>& out) {
  const auto first = static_cast<int64_t>(out.size());
  const auto d = std::ssize(head_rows);
  out.resize(first + matrix.rows * matrix.cols);
  for (int64_t i = 0; i < matrix.rows; ++i) {
    const int64_t to = d == 0 ? i : i / d * d + head_rows[i % d];
    std::copy_n(matrix.row(i), matrix.cols, out.begin() + first + to * matrix.cols);
  }
}

absl::StatusOr<std::string> Rounded(const LayerMatrices& weights, const OutputTensor& tensor) {
  std::vector<float> narrow;
  for (const Piece& piece : tensor.pieces) {
    AppendRows(weights.*piece.matrix, piece.head_rows, narrow);
  }
  MEA_CHECK(std::ssize(narrow) == NumElements(tensor.shape));
  std::string bytes(tensor.num_bytes, '\0');
  const ConversionResult result =
      ConvertDType(narrow.data(), DType::kF32, bytes.data(), tensor.storage, std::ssize(narrow));
  if (result.num_non_finite + result.num_overflows > 0) {
    return absl::OutOfRangeError(absl::StrCat(tensor.name, ": ",
                                              result.num_non_finite + result.num_overflows,
                                              " composed values are beyond ", tensor.dtype));
  }
  return bytes;
}

// Writes shards; keeps the composed layer that it asked for last.
class ShardWriter {
 public:
  ShardWriter(const LayerSource& source, const BytesWritten& progress, int64_t bytes_total)
      : source_(source), progress_(progress), bytes_total_(bytes_total) {}

  absl::Status Write(const Shard& shard, const fs::path& dir) {
    MEA_ASSIGN_OR_RETURN(std::unique_ptr<OutputFile> file,
                         OutputFile::Create(dir / shard.file_name));
    MEA_RETURN_IF_ERROR(file->Append(Header(shard)));
    for (const OutputTensor& tensor : shard.tensors) {
      MEA_RETURN_IF_ERROR(WriteTensor(tensor, *file));
      bytes_done_ += tensor.num_bytes;
      if (!progress_) continue;
      MEA_RETURN_IF_ERROR(progress_(bytes_done_, bytes_total_));
    }
    return file->Close();
  }

 private:
  absl::Status WriteTensor(const OutputTensor& tensor, OutputFile& file) {
    if (tensor.copied != nullptr) {
      return file.Append({tensor.copied->data(), static_cast<size_t>(tensor.num_bytes)});
    }
    if (layer_ != tensor.layer) {
      layer_.reset();
      MEA_ASSIGN_OR_RETURN(weights_, source_(tensor.layer));
      layer_ = tensor.layer;
    }
    const absl::StatusOr<std::string> bytes = Rounded(weights_, tensor);
    return bytes.ok() ? file.Append(*bytes) : bytes.status();
  }

  const LayerSource& source_;
  const BytesWritten& progress_;
  const int64_t bytes_total_;
  int64_t bytes_done_ = 0;
  std::optional<int> layer_;
  LayerMatrices weights_;
};

Json HeadsJson(const LayerPlan& plan, int LayerHeads::*heads) {
  Json list = Json::array();
  for (const LayerHeads& layer : plan) list.push_back(layer.*heads);
  const bool alike =
      std::all_of(list.begin(), list.end(), [&](const Json& n) { return n == list[0]; });
  return alike ? list[0] : list;
}

absl::StatusOr<std::string> ConfigText(const Checkpoint& in, const LayerPlan& plan) {
  const fs::path file = in.dir / "config.json";
  MEA_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(file));
  if (in.config.model_type == "mea") return text;
  Json config = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!config.is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(file.string(), ": not an object any more"));
  }
  config["architectures"] = {"MeaForCausalLM"};
  config["model_type"] = "mea";
  config["base_model_type"] = in.config.base_model_type;
  config["num_key_value_heads"] = in.config.kv_heads;
  config["head_dim"] = in.config.head_dim;
  config["head_composition"] = {
      {"kind", "mea"},
      {"num_component_key_heads", HeadsJson(plan, &LayerHeads::key_heads)},
      {"num_component_value_heads", HeadsJson(plan, &LayerHeads::value_heads)},
      {"head_norm", "none"}};
  return config.dump(2) + "\n";
}

std::string IndexText(const std::vector<Shard>& shards, int64_t total_bytes) {
  Json index = {{"metadata", {{"total_size", total_bytes}}}, {"weight_map", Json::object()}};
  for (const Shard& shard : shards) {
    for (const OutputTensor& tensor : shard.tensors)
      index["weight_map"][tensor.name] = shard.file_name;
  }
  return index.dump(2) + "\n";
}

// The files of a model that do not depend on its weights.
constexpr std::array<const char*, 10> kCompanions = {"generation_config.json",
                                                     "tokenizer.json",
                                                     "tokenizer_config.json",
                                                     "tokenizer.model",
                                                     "special_tokens_map.json",
                                                     "added_tokens.json",
                                                     "vocab.json",
                                                     "merges.txt",
                                                     "chat_template.jinja",
                                                     "chat_template.json"};

absl::Status CopyCompanions(const fs::path& from, const fs::path& to) {
  for (const char* name : kCompanions) {
    std::error_code error;
    if (!fs::exists(from / name, error)) continue;
    MEA_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(from / name));
    MEA_RETURN_IF_ERROR(WriteFile(to / name, text));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status WriteCheckpoint(const Checkpoint& in, const OutputPlan& plan,
                             const LayerSource& source, const fs::path& dir,
                             const BytesWritten& progress) {
  MEA_ASSIGN_OR_RETURN(const std::string config, ConfigText(in, plan.heads));
  const std::vector<Shard> shards = PlanShards(in, plan);
  int64_t total_bytes = 0;
  for (const Shard& shard : shards) {
    for (const OutputTensor& tensor : shard.tensors) total_bytes += tensor.num_bytes;
  }
  ShardWriter writer(source, progress, total_bytes);
  for (const Shard& shard : shards) {
    MEA_RETURN_IF_ERROR(writer.Write(shard, dir));
  }
  if (in.tensors.num_files() > 1 || shards[0].file_name != "model.safetensors") {
    MEA_RETURN_IF_ERROR(
        WriteFile(dir / "model.safetensors.index.json", IndexText(shards, total_bytes)));
  }
  MEA_RETURN_IF_ERROR(CopyCompanions(in.dir, dir));
  MEA_RETURN_IF_ERROR(WriteFile(dir / "config.json", config));
  return SyncDirectory(dir);
}

}  // namespace mea::convert
