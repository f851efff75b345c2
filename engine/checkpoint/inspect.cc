#include "engine/checkpoint/inspect.h"

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "engine/attention/variant.h"
#include "engine/storage/mismatch.h"
#include "kvcache/kv_layout.h"

namespace mea {
namespace {

std::string Megabytes(int64_t bytes) {
  return absl::StrFormat("%.1f MB", static_cast<double>(bytes) / 1e6);
}

std::string Line(const std::string& label, const std::string& text) {
  return absl::StrFormat("%-14s %s\n", label, text);
}

int64_t NumElements(const StoredTensor& tensor) {
  return tensor.num_bytes / StoredDTypeSize(tensor.dtype);
}

std::string Architecture(const ModelConfig& config) {
  const std::string name = config.model_type == "mea"
                               ? absl::StrCat(config.composition, " on ", config.base_model_type)
                               : config.model_type;
  return absl::StrCat(name, ", ", config.num_layers, " layers, hidden ", config.hidden_size,
                      ", ffn ", config.ffn_size, ", vocabulary ", config.vocab_size, ", context ",
                      config.max_position);
}

// "1..3, 5".
std::string LayersText(const std::vector<bool>& chosen) {
  std::vector<std::string> ranges;
  const auto count = static_cast<int>(chosen.size());
  for (int first = 0; first < count; ++first) {
    if (!chosen[first]) continue;
    int last = first;
    while (last + 1 < count && chosen[last + 1]) ++last;
    ranges.push_back(first == last ? absl::StrCat(first) : absl::StrCat(first, "..", last));
    first = last;
  }
  return absl::StrJoin(ranges, ", ");
}

// "8 of ffn 24, 2 per token, in layers 1..3, 5".
std::string ExpertsText(const ModelConfig& config) {
  return absl::StrCat(config.moe.num_experts, " of ffn ", config.moe.ffn_size, ", ",
                      config.moe.top_k, " per token, in layers ", LayersText(config.sparse_layers));
}

std::string RopeText(const RopeConfig& rope, int head_dim) {
  std::string theta = absl::StrCat("theta ", rope.theta);
  if (rope.rotary_dim > 0) {
    absl::StrAppend(&theta, ", ", rope.rotary_dim, " of ", head_dim, " elements of a head");
  }
  switch (rope.kind) {
    case RopeKind::kNone:
      return "none";
    case RopeKind::kDefault:
      return theta;
    case RopeKind::kLinear:
      return absl::StrCat("linear, factor ", rope.factor, ", ", theta);
    case RopeKind::kLlama3:
      return absl::StrCat("llama3, factor ", rope.factor, " over ", rope.original_max_position,
                          ", ", theta);
    case RopeKind::kLongRope:
      return absl::StrCat("longrope, factor ", rope.factor, " over ", rope.original_max_position,
                          ", ", theta);
    case RopeKind::kYarn:
      return absl::StrCat("yarn, factor ", rope.factor, " over ", rope.original_max_position, ", ",
                          theta);
  }
  return theta;
}

// "awq, 4 bits, groups of 128".
std::string PackedText(const PackedFormat& format) {
  return absl::StrCat(
      std::string(PackedMethodName(format.method)), ", 4 bits, ",
      format.group_size == 0 ? "whole rows" : absl::StrCat("groups of ", format.group_size));
}

// "1,024 (BF16 1,000; F32 24)".
std::string Parameters(const SafeTensors& tensors) {
  std::map<std::string, int64_t> by_dtype;
  int64_t total = 0;
  for (const auto& [name, tensor] : tensors.tensors()) {
    by_dtype[StoredDTypeName(tensor.dtype)] += NumElements(tensor);
    total += NumElements(tensor);
  }
  const std::string parts = absl::StrJoin(by_dtype, "; ", [](std::string* out, const auto& entry) {
    absl::StrAppend(out, entry.first, " ", Grouped(entry.second));
  });
  return absl::StrCat(Grouped(total), " (", parts, ")");
}

std::string Weights(const SafeTensors& tensors) {
  int64_t bytes = 0;
  for (const auto& [name, tensor] : tensors.tensors()) bytes += tensor.num_bytes;
  return absl::StrCat(Megabytes(bytes), ", ", tensors.tensors().size(), " tensors in ",
                      tensors.num_files(), tensors.num_files() == 1 ? " file" : " files");
}

// One line per run of layers that have the same cache.
std::string LayerTable(const ModelConfig& config) {
  std::string table =
      absl::StrFormat("%-14s %6s %6s %8s  %s\n", "layers", "h'_K", "h'_V", "window", "composed");
  for (int first = 0; first < config.num_layers;) {
    int last = first;
    while (last + 1 < config.num_layers &&
           config.layer_heads[last + 1] == config.layer_heads[first] &&
           config.layer_windows[last + 1] == config.layer_windows[first]) {
      ++last;
    }
    const LayerHeads& heads = config.layer_heads[first];
    const int window = config.layer_windows[first];
    const std::string range = first == last ? absl::StrCat(first) : absl::StrCat(first, "..", last);
    absl::StrAppendFormat(&table, "  %-12s %6d %6d %8s  %s\n", range, heads.key_heads,
                          heads.value_heads, window == 0 ? "-" : absl::StrCat(window),
                          AttentionOf(config).DescribeLayer(config, first));
    first = last + 1;
  }
  return table;
}

std::string CacheText(const ModelConfig& config, KvDTypes kv_dtype) {
  KvLayout layout{.kv_heads = config.kv_heads, .page_size = 1};
  for (int layer = 0; layer < config.num_layers; ++layer) {
    layout.layers.push_back(config.LayerKvSpec(layer, kv_dtype));
  }
  return absl::StrFormat("%s bytes per token in %s, %s uncompressed, ratio %.3f",
                         Grouped(layout.BytesPerToken()), KvDTypesName(kv_dtype),
                         Grouped(layout.UncompressedBytesPerToken()), layout.CompressionRatio());
}

std::string TensorTable(const SafeTensors& tensors) {
  std::string table = "tensors\n";
  for (const auto& [name, tensor] : tensors.tensors()) {
    const std::string file = std::filesystem::path(tensor.file->path()).filename().string();
    absl::StrAppendFormat(&table, "  %-56s %-5s %-16s %14s bytes  %s\n", name,
                          StoredDTypeName(tensor.dtype), ShapeString(tensor.shape),
                          Grouped(tensor.num_bytes), file);
  }
  return table;
}

}  // namespace

std::string InspectCheckpoint(const Checkpoint& checkpoint, const InspectOptions& options) {
  const ModelConfig& config = checkpoint.config;
  std::string text = Line("architecture", Architecture(config));
  text += Line("attention", absl::StrCat(config.q_heads, " query heads, ", config.kv_heads,
                                         " KV heads, head_dim ", config.head_dim,
                                         config.layers.qk_norm       ? ", QK-norm"
                                         : config.layers.qk_row_norm ? ", QK-norm over all heads"
                                                                     : "",
                                         config.qkv_bias ? ", biases" : ""));
  if (config.num_sparse_layers() > 0) text += Line("experts", ExpertsText(config));
  text += Line("rope", RopeText(config.rope, config.head_dim));
  if (config.other_rope) {
    text += Line("other rope", absl::StrCat(RopeText(*config.other_rope, config.head_dim),
                                            ", in layers ", LayersText(config.other_rope_layers)));
  }
  text += Line("head norm", config.head_norm == HeadNorm::kRms
                                ? absl::StrCat("rms, eps ", config.head_norm_eps)
                                : "none");
  for (const auto& [label, of_variant] : AttentionOf(config).Describe(config, options.kv_dtype)) {
    text += Line(label, of_variant);
  }
  if (config.packed) text += Line("quantisation", PackedText(*config.packed));
  text += Line("parameters", Parameters(checkpoint.tensors));
  text += Line("weights", Weights(checkpoint.tensors));
  text += LayerTable(config);
  text += Line("KV cache", CacheText(config, options.kv_dtype));
  if (options.tensors) text += TensorTable(checkpoint.tensors);
  return text;
}

}  // namespace mea
