#include "engine/family/families.h"
#include "engine/family/rope_reader.h"
#include "engine/family/window_reader.h"
#include "engine/storage/field_reader.h"

namespace mea {
namespace {

// Norms follow the blocks, and the norms of queries and keys cover all heads together.
constexpr LayerDesign kOlmoLayers = {.input_norm = "",
                                     .attention_output_norm = "post_attention_layernorm",
                                     .ffn_norm = "",
                                     .ffn_output_norm = "post_feedforward_layernorm",
                                     .qk_row_norm = true};
constexpr double kTheta = 500000.0;  // of OLMo-3

// Three layers of four have a window; RoPE is scaled in the fourth alone.
void ReadOlmo3(FieldReader& in, ModelConfig& config) {
  WindowUse windows{.default_window = 4096, .layer_types_decides = true};
  for (int i = 0; i < config.num_layers; ++i) windows.sliding_layers.push_back((i + 1) % 4 != 0);
  if (in.IsNull("sliding_window")) in.Refuse("sliding_window", "an integer", "null");
  ReadWindows(in, windows, config);
  // transformers 4 rotates every layer by it, transformers 5 only the layers without a window.
  const nlohmann::json* theta = in.Get("rope_theta");
  if (theta != nullptr && *theta != kTheta) {
    in.RefuseValue("rope_theta", "500000, or rope_parameters with one for each kind of layer",
                   *theta);
  }
  config.rope = ReadRope(in, config, {.theta = kTheta, .nested = "full_attention"});
  config.other_rope = ReadRope(
      in, config, {.theta = kTheta, .nested = "sliding_attention", .reads_scaling = false});
  if (!in.status().ok()) return;
  for (const int window : config.layer_windows) config.other_rope_layers.push_back(window > 0);
}

}  // namespace

const Family kOlmo2 = {.name = "olmo2",
                       .layers = kOlmoLayers,
                       .default_max_position = 2048,
                       .default_eps = 1e-5,
                       .reads_attention_bias = true};

const Family kOlmo3 = {.name = "olmo3",
                       .layers = kOlmoLayers,
                       .default_max_position = 2048,
                       .default_eps = 1e-5,
                       .reads_rope = false,
                       .reads_attention_bias = true,
                       .window = WindowRule::kOwn,
                       .read = ReadOlmo3};

}  // namespace mea
