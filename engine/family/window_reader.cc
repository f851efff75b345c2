#include "engine/family/window_reader.h"

#include "absl/strings/str_cat.h"

namespace mea {
namespace {

constexpr IntRange kWindowRange{1, 1 << 30};
constexpr IntRange kMaxWindowLayersRange{0, 4096};
constexpr int kDefaultMaxWindowLayers = 28;  // of qwen2 and qwen3

// One for each layer; nothing after a refusal.
std::vector<bool> ReadLayerTypes(FieldReader& in, const nlohmann::json& types, int num_layers) {
  if (!types.is_array() || static_cast<int>(types.size()) != num_layers) {
    in.RefuseValue("layer_types",
                   absl::StrCat("a list of num_hidden_layers = ", num_layers, " names"), types);
    return {};
  }
  std::vector<bool> sliding;
  for (int layer = 0; layer < num_layers; ++layer) {
    const nlohmann::json& type = types[layer];
    sliding.push_back(type == "sliding_attention");
    if (!sliding.back() && type != "full_attention") {
      in.RefuseValue(absl::StrCat("layer_types[", layer, "]"),
                     "\"full_attention\" or \"sliding_attention\"", type);
    }
  }
  return sliding;
}

WindowUse UseOf(FieldReader& in, const Family& family, int num_layers) {
  WindowUse use{.default_window = family.default_window};
  switch (family.window) {
    case WindowRule::kNone:
    case WindowRule::kOwn:
      use.is_used = false;
      break;
    case WindowRule::kEveryLayer:
      break;
    case WindowRule::kEveryLayerIfUsed:
      use.is_used = in.Bool("use_sliding_window", false);
      break;
    case WindowRule::kLastLayers: {
      use.is_used = in.Bool("use_sliding_window", false);
      use.layer_types_decides = true;
      const int first =
          use.is_used ? in.Int("max_window_layers", kMaxWindowLayersRange, kDefaultMaxWindowLayers)
                      : num_layers;
      for (int layer = 0; layer < num_layers; ++layer) {
        use.sliding_layers.push_back(layer >= first);
      }
    }
  }
  return use;
}

}  // namespace

void ReadWindows(FieldReader& in, const WindowUse& use, ModelConfig& config) {
  // Absent means the default, null means none.
  const int window = !use.is_used ? 0
                                  : in.Int("sliding_window", kWindowRange,
                                           in.IsNull("sliding_window") ? 0 : use.default_window);
  const nlohmann::json* types = in.Get("layer_types");
  std::vector<bool> sliding = use.sliding_layers;
  if (types != nullptr) sliding = ReadLayerTypes(in, *types, config.num_layers);
  sliding.resize(config.num_layers, true);
  config.layer_windows.assign(config.num_layers, 0);
  for (int layer = 0; in.status().ok() && layer < config.num_layers; ++layer) {
    if (types != nullptr && sliding[layer] && window == 0) {
      in.Refuse(absl::StrCat("layer_types[", layer, "]"),
                "\"full_attention\", since no sliding window is in use", "\"sliding_attention\"");
    } else if (!use.layer_types_decides && !sliding[layer] && window > 0) {
      in.Refuse(absl::StrCat("layer_types[", layer, "]"),
                "\"sliding_attention\", since sliding_window is set", "\"full_attention\"");
    }
    config.layer_windows[layer] = sliding[layer] ? window : 0;
  }
}

void ReadWindows(FieldReader& in, const Family& family, ModelConfig& config) {
  if (family.window == WindowRule::kOwn) return;
  ReadWindows(in, UseOf(in, family, config.num_layers), config);
}

}  // namespace mea
