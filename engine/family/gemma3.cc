#include <array>
#include <cmath>

#include "engine/family/families.h"
#include "engine/family/rope_reader.h"
#include "engine/family/window_reader.h"
#include "engine/storage/field_reader.h"

namespace mea {
namespace {

constexpr NumberRange kScalarRange{1e-3, 1e6};
constexpr IntRange kPatternRange{1, 4096};
constexpr std::array<std::string_view, 1> kGemmaFields = {"query_pre_attn_scalar"};

// Five layers of six have a window and a smaller RoPE base; the sixth sees everything.
void ReadGemma(FieldReader& in, ModelConfig& config) {
  if (in.Bool("use_bidirectional_attention", false)) {
    in.Refuse("use_bidirectional_attention", "false", "true");
  }
  config.embedding_scale = std::sqrt(static_cast<double>(config.hidden_size));
  config.attention_scale = 1.0 / std::sqrt(in.Number("query_pre_attn_scalar", kScalarRange, 256.0));
  const int pattern = in.Int("sliding_window_pattern", kPatternRange, 6);
  WindowUse windows{.default_window = 4096, .layer_types_decides = true};
  for (int i = 0; i < config.num_layers; ++i)
    windows.sliding_layers.push_back((i + 1) % pattern != 0);
  if (in.IsNull("sliding_window")) in.Refuse("sliding_window", "an integer", "null");
  ReadWindows(in, windows, config);
  config.rope = ReadRope(in, config, {.theta = 1e6, .nested = "full_attention"});
  config.other_rope = ReadRope(in, config,
                               {.theta = 1e4,
                                .theta_field = "rope_local_base_freq",
                                .nested = "sliding_attention",
                                .reads_scaling = false});
  if (!in.status().ok()) return;
  for (const int window : config.layer_windows) config.other_rope_layers.push_back(window > 0);
}

}  // namespace

const Family kGemma3 = {.name = "gemma3_text",
                        .layers = {.attention_output_norm = "post_attention_layernorm",
                                   .ffn_norm = "pre_feedforward_layernorm",
                                   .ffn_output_norm = "post_feedforward_layernorm",
                                   .gain_offset = 1,
                                   .qk_norm = true,
                                   .activation = Activation::kGeluTanh},
                        .default_kv_heads = 4,
                        .default_head_dim = 256,
                        .default_max_position = 131072,
                        .reads_rope = false,
                        .default_tie = true,
                        .activation_field = "hidden_activation",
                        .reads_attention_bias = true,
                        .window = WindowRule::kOwn,
                        .own_fields = kGemmaFields,
                        .read = ReadGemma};

}  // namespace mea
