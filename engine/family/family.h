#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "engine/config/config.h"

namespace mea {

class FieldReader;

// Where a window applies when layer_types does not say: window_reader.h. kOwn: Family::read reads
// it.
enum class WindowRule : uint8_t { kNone, kEveryLayer, kEveryLayerIfUsed, kLastLayers, kOwn };

// How the layers with experts are told.
enum class ExpertRule : uint8_t { kNone, kMixtral, kQwen };

// A family of models, told by model_type: how its config.json is read, with the defaults of its
// configuration class in transformers, and what its layers are made of. One file each.
struct Family {
  std::string_view name;  // model_type
  LayerDesign layers;

  int default_kv_heads = 0;      // 0: one per query head
  int default_head_dim = 0;      // 0: hidden_size / num_attention_heads
  int default_max_position = 0;  // 0: it must be given
  double default_eps = 1e-6;
  bool reads_rope = true;  // as most families do; else `read` does
  double default_theta = 10000.0;
  bool may_be_long_rope = false;  // LongRoPE and partial rotation
  bool default_tie = false;
  std::string_view activation_field = "hidden_act";
  bool always_qkv_bias = false;
  bool reads_attention_bias = false;  // attention_bias: q, k, v and o alike
  bool reads_mlp_bias = false;
  WindowRule window = WindowRule::kNone;
  int default_window = 4096;  // 0: none
  ExpertRule experts = ExpertRule::kNone;

  // Fields that other families must not have, since they change the mathematics; `read` reads them.
  std::span<const std::string_view> own_fields = {};
  // What rows do not say, after everything else but head_composition has been read.
  void (*read)(FieldReader& in, ModelConfig& config) = nullptr;
};

// Null where there is none of that name.
const Family* FindFamily(std::string_view name);
// "llama, mistral, ..."
std::string FamilyNames();

}  // namespace mea
