#include <array>

#include "absl/strings/str_cat.h"
#include "engine/family/families.h"
#include "engine/family/window_reader.h"
#include "engine/storage/field_reader.h"

namespace mea {
namespace {

constexpr IntRange kIntervalRange{1, 4096};

// no_rope_layers has a 1 for every layer with rotary embedding. Those without have the window, if
// there is one, unless layer_types says otherwise.
void ReadSmolLm(FieldReader& in, ModelConfig& config) {
  std::vector<int> has_rope = in.IntOrList("no_rope_layers", {0, 1});
  const int interval = in.Int("no_rope_layer_interval", kIntervalRange, 4);
  if (!in.Has("no_rope_layers")) {
    for (int i = 0; i < config.num_layers; ++i) has_rope.push_back((i + 1) % interval != 0);
  }
  if (in.status().ok() && std::ssize(has_rope) < config.num_layers) {
    in.Refuse("no_rope_layers", absl::StrCat("0 or 1 for each of ", config.num_layers, " layers"),
              absl::StrCat(has_rope.size(), " entries"));
  }
  if (!in.status().ok()) return;
  config.other_rope = RopeConfig{.kind = RopeKind::kNone};
  for (int i = 0; i < config.num_layers; ++i) config.other_rope_layers.push_back(has_rope[i] == 0);
  ReadWindows(in,
              {.is_used = in.Bool("use_sliding_window", false) || in.Has("layer_types"),
               .sliding_layers = config.other_rope_layers,
               .layer_types_decides = true},
              config);
}

}  // namespace

const Family kSmolLm3 = {.name = "smollm3",
                         .default_kv_heads = 4,
                         .default_max_position = 32768,
                         .default_theta = 2e6,
                         .default_tie = true,
                         .reads_attention_bias = true,
                         .reads_mlp_bias = true,
                         .window = WindowRule::kOwn,
                         .read = ReadSmolLm};

}  // namespace mea
