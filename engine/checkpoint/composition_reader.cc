#include "engine/checkpoint/composition_reader.h"

#include "absl/strings/str_cat.h"
#include "engine/checkpoint/mismatch.h"

namespace mea {
namespace {

constexpr IntRange kPseudoHeadRange{1, 16};
constexpr IntRange kWindowRange{0, 1 << 30};
constexpr NumberRange kHeadNormEpsRange{0.0, 1.0};

// h' of every layer from an integer or a list of one per layer.
std::vector<int> ReadComponentHeads(FieldReader& in, const char* name, const ModelConfig& config) {
  std::vector<int> heads = in.IntOrList(name, {1, config.kv_heads});
  if (in.status().ok() && heads.empty() && !in.Get(name)) {
    in.Refuse(name, absl::StrCat("an integer in 1..", config.kv_heads, " or a list of them"),
              "no such field");
  }
  if (in.Get(name) != nullptr && !in.Get(name)->is_array())
    heads.resize(config.num_layers, heads[0]);
  if (in.status().ok() && static_cast<int>(heads.size()) != config.num_layers) {
    in.Refuse(name, absl::StrCat("one entry per layer (", config.num_layers, ")"),
              absl::StrCat(heads.size(), " entries"));
  }
  return heads;
}

// MEA, arXiv 2601.19611.
void ReadMea(FieldReader& in, ModelConfig& config) {
  in.OnlyFields({"kind", "num_component_key_heads", "num_component_value_heads", "head_norm",
                 "head_norm_eps"});
  const std::vector<int> keys = ReadComponentHeads(in, "num_component_key_heads", config);
  const std::vector<int> values = ReadComponentHeads(in, "num_component_value_heads", config);
  const std::string norm = in.String("head_norm", "none");
  if (norm != "none" && norm != "rms")
    in.Refuse("head_norm", "\"rms\" or \"none\"", ShownName(norm));
  config.head_norm = norm == "rms" ? HeadNorm::kRms : HeadNorm::kNone;
  config.head_norm_eps = static_cast<float>(in.Number("head_norm_eps", kHeadNormEpsRange, 1e-5));
  if (!in.status().ok()) return;
  for (int layer = 0; layer < config.num_layers; ++layer) {
    config.layer_heads[layer] = {.key_heads = keys[layer],
                                 .value_heads = values[layer],
                                 .key_mix = keys[layer] < config.kv_heads,
                                 .value_mix = values[layer] < config.kv_heads};
  }
}

// KHA, arXiv 2510.23052.
void ReadKha(FieldReader& in, ModelConfig& config) {
  in.OnlyFields({"kind", "knock"});
  const std::string knock = in.String("knock");
  if (in.status().ok() && knock != "linear" && knock != "mlp") {
    in.Refuse("knock", "\"linear\" or \"mlp\"", ShownName(knock));
  }
  config.knock = knock == "mlp" ? Knock::kMlp : Knock::kLinear;
}

// What pseudo heads do not go together with in the base model.
absl::Status CheckBaseOfIha(const FieldReader& in, const ModelConfig& config) {
  const auto refuse = [&in](const char* field, const std::string& expected,
                            const std::string& found) -> absl::Status {
    return absl::InvalidArgumentError(Mismatch(in.file(), field, expected, found));
  };
  if (config.kv_heads != config.q_heads) {
    return refuse("num_key_value_heads",
                  absl::StrCat("num_attention_heads ", config.q_heads,
                               ", since pseudo heads mix queries, keys and values alike"),
                  absl::StrCat(config.kv_heads));
  }
  if (config.qk_norm) {
    return refuse("base_model_type", "a model without QK-norm below interleaved heads",
                  ShownName(config.base_model_type));
  }
  for (const int window : config.layer_windows) {
    if (window == 0) continue;
    return refuse("sliding_window", "null beside head_composition.layer_windows",
                  absl::StrCat(window));
  }
  return absl::OkStatus();
}

// IHA, arXiv 2602.21371.
void ReadIha(FieldReader& in, ModelConfig& config) {
  in.OnlyFields({"kind", "num_pseudo_heads", "layer_windows"});
  config.pseudo_heads = in.Int("num_pseudo_heads", kPseudoHeadRange);
  const std::vector<int> windows = in.IntOrList("layer_windows", kWindowRange);
  if (in.status().ok() && (windows.empty() || std::ssize(windows) > config.num_layers)) {
    in.Refuse("layer_windows",
              absl::StrCat("1 to ", config.num_layers,
                           " windows in tokens, repeated over the layers, 0 for an ordinary one"),
              in.Has("layer_windows") ? absl::StrCat(windows.size(), " entries") : "no such field");
  }
  in.Fail(CheckBaseOfIha(in, config));
  if (!in.status().ok()) return;
  for (int layer = 0; layer < config.num_layers; ++layer) {
    const int window = windows[layer % windows.size()];
    config.layer_windows[layer] = window;
    config.layer_heads[layer].pseudo_heads = window > 0 ? config.pseudo_heads : 0;
  }
}

}  // namespace

absl::Status ReadHeadComposition(FieldReader in, ModelConfig& config) {
  const std::string kind = in.String("kind");
  if (kind == "mea") {
    ReadMea(in, config);
  } else if (kind == "kha") {
    ReadKha(in, config);
  } else if (kind == "iha") {
    ReadIha(in, config);
  } else {
    in.Refuse("kind", "one of mea, kha, iha", ShownName(kind));
  }
  return in.status();
}

}  // namespace mea
