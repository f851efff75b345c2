#include <array>
#include <cmath>

#include "engine/family/families.h"
#include "engine/family/rope_reader.h"
#include "engine/storage/field_reader.h"

namespace mea {
namespace {

constexpr NumberRange kScalarRange{1e-3, 1e6};
constexpr IntRange kGemmaWindowRange{1, 1 << 30};
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
  std::vector<bool> by_pattern;
  for (int i = 0; i < config.num_layers; ++i) by_pattern.push_back((i + 1) % pattern != 0);
  const std::vector<bool> sliding = ReadSlidingLayers(in, config.num_layers, by_pattern);
  const int window = in.Int("sliding_window", kGemmaWindowRange, 4096);
  config.rope = ReadRope(in, config, {.theta = 1e6, .nested = "full_attention"});
  config.other_rope = ReadRope(in, config,
                               {.theta = 1e4,
                                .theta_field = "rope_local_base_freq",
                                .nested = "sliding_attention",
                                .reads_scaling = false});
  if (!in.status().ok()) return;
  config.other_rope_layers = sliding;
  for (int i = 0; i < config.num_layers; ++i) config.layer_windows[i] = sliding[i] ? window : 0;
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
