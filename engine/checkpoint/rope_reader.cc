#include "engine/checkpoint/rope_reader.h"

#include "absl/strings/str_cat.h"

namespace mea {
namespace {

constexpr NumberRange kThetaRange{1.0001, 1e15};  // log(theta) divides
constexpr NumberRange kFactorRange{1.0, 1e6};
constexpr NumberRange kScaleRange{0.0, 1e6};
constexpr NumberRange kRotationRange{1e-6, 1e6};
constexpr IntRange kContextRange{1, 1 << 30};

void ReadLlama3(FieldReader& rope, RopeConfig& config) {
  config.factor = rope.Number("factor", kFactorRange);
  config.low_freq_factor = rope.Number("low_freq_factor", kRotationRange);
  config.high_freq_factor = rope.Number("high_freq_factor", kRotationRange);
  if (rope.status().ok() && config.high_freq_factor <= config.low_freq_factor) {
    rope.Refuse("high_freq_factor",
                absl::StrCat("more than low_freq_factor ", config.low_freq_factor),
                absl::StrCat(config.high_freq_factor));
  }
}

void ReadYarn(FieldReader& rope, int max_position, RopeConfig& config) {
  const double ratio = static_cast<double>(max_position) / config.original_max_position;
  if (!rope.Has("factor") && ratio < 1.0) {
    rope.Refuse("factor", "a number, since original_max_position_embeddings exceeds the context",
                "no such field");
  }
  config.factor = rope.Number("factor", kFactorRange, ratio);
  config.beta_fast = rope.Number("beta_fast", kRotationRange, 32.0);
  config.beta_slow = rope.Number("beta_slow", kRotationRange, 1.0);
  if (rope.status().ok() && config.beta_fast < config.beta_slow) {
    rope.Refuse("beta_fast", absl::StrCat("at least beta_slow ", config.beta_slow),
                absl::StrCat(config.beta_fast));
  }
  config.mscale = rope.Number("mscale", kScaleRange, 0.0);
  config.mscale_all_dim = rope.Number("mscale_all_dim", kScaleRange, 0.0);
  config.truncate = rope.Bool("truncate", true);
  if (rope.Has("attention_factor")) {
    config.attention_factor = rope.Number("attention_factor", kScaleRange);
  }
}

// `rope` is the object of rope_scaling or rope_parameters, or config.json itself where neither is
// given.
void ReadKind(FieldReader& in, FieldReader& rope, int max_position, RopeConfig& config) {
  for (const char* nested : {"full_attention", "sliding_attention"}) {
    if (rope.Has(nested)) rope.Refuse(nested, "the same parameters for all layers", "an object");
  }
  if (rope.Number("partial_rotary_factor", {0.0, 1.0}, 1.0) != 1.0) {
    rope.RefuseValue("partial_rotary_factor", "nothing or 1", *rope.Get("partial_rotary_factor"));
  }
  const std::string kind = rope.String("rope_type", rope.String("type", "default"));
  if (kind == "default") return;

  // A field at the top level outranks the one inside; without either the context counts.
  const int inner = rope.Int("original_max_position_embeddings", kContextRange, max_position);
  config.original_max_position = in.Int("original_max_position_embeddings", kContextRange, inner);
  if (kind == "linear") {
    config.kind = RopeKind::kLinear;
    config.factor = rope.Number("factor", kFactorRange);
  } else if (kind == "llama3") {
    config.kind = RopeKind::kLlama3;
    ReadLlama3(rope, config);
  } else if (kind == "yarn") {
    config.kind = RopeKind::kYarn;
    ReadYarn(rope, max_position, config);
  } else {
    rope.Refuse(rope.Has("rope_type") ? "rope_type" : "type",
                "one of default, linear, llama3, yarn", ShownName(kind));
  }
}

}  // namespace

RopeConfig ReadRope(FieldReader& in, int max_position, double default_theta) {
  RopeConfig config;
  config.theta = in.Number("rope_theta", kThetaRange, default_theta);
  for (const char* field : {"rope_scaling", "rope_parameters"}) {
    const nlohmann::json* value = in.Get(field);
    if (value == nullptr || value->empty()) continue;
    FieldReader rope = in.Object(field);
    config.theta = rope.Number("rope_theta", kThetaRange, config.theta);
    ReadKind(in, rope, max_position, config);
    in.Fail(rope.status());
    break;  // transformers lets rope_scaling win where both are given
  }
  return config;
}

}  // namespace mea
