#include "engine/family/rope_reader.h"

#include "absl/strings/str_cat.h"

namespace mea {
namespace {

constexpr NumberRange kThetaRange{1.0001, 1e15};  // log(theta) divides
constexpr NumberRange kFactorRange{1.0, 1e6};
constexpr NumberRange kScaleRange{0.0, 1e6};
constexpr NumberRange kFactorListRange{1e-6, 1e6};
constexpr int kPhiOriginalContext = 4096;
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

// A factor for each pair of elements that rotates.
std::vector<double> ReadFactors(FieldReader& rope, const char* name, int rotary_dim) {
  std::vector<double> factors = rope.NumberList(name, kFactorListRange);
  if (rope.status().ok() && std::ssize(factors) != rotary_dim / 2) {
    rope.Refuse(name, absl::StrCat("a list of ", rotary_dim / 2, " numbers"),
                rope.Has(name) ? absl::StrCat(factors.size(), " of them") : "no such field");
  }
  return factors;
}

void ReadLongRope(FieldReader& rope, const ModelConfig& model, RopeConfig& config) {
  const int rotary_dim = config.rotary_dim > 0 ? config.rotary_dim : model.head_dim;
  config.short_factors = ReadFactors(rope, "short_factor", rotary_dim);
  config.long_factors = ReadFactors(rope, "long_factor", rotary_dim);
  const double ratio = static_cast<double>(model.max_position) / config.original_max_position;
  config.factor = rope.Number("factor", kScaleRange, ratio);
  if (rope.Has("attention_factor")) {
    config.attention_factor = rope.Number("attention_factor", kScaleRange);
  }
}

void ReadPartial(FieldReader& in, FieldReader& rope, const ModelConfig& model,
                 const RopeFields& fields, RopeConfig& config) {
  FieldReader& at = rope.Has("partial_rotary_factor") ? rope : in;
  const double factor = at.Number("partial_rotary_factor", {0.0, 1.0}, 1.0);
  if (factor == 1.0) return;
  const int rotary_dim = static_cast<int>(model.head_dim * factor);
  if (!fields.may_be_partial) {
    at.RefuseValue("partial_rotary_factor", "nothing or 1", *at.Get("partial_rotary_factor"));
  } else if (rotary_dim < 2 || rotary_dim % 2 != 0) {
    at.Refuse("partial_rotary_factor", absl::StrCat("an even part of head_dim ", model.head_dim),
              absl::StrCat(rotary_dim, " elements"));
  } else {
    config.rotary_dim = rotary_dim;
  }
}

// `rope` is the object that describes these layers.
void ReadKind(FieldReader& in, FieldReader& rope, const ModelConfig& model,
              const RopeFields& fields, RopeConfig& config) {
  for (const char* nested : {"full_attention", "sliding_attention"}) {
    if (rope.Has(nested)) rope.Refuse(nested, "the same parameters for all layers", "an object");
  }
  ReadPartial(in, rope, model, fields, config);
  std::string kind = rope.String("rope_type", rope.String("type", "default"));
  if (kind == "default") return;
  if (fields.may_be_long && (kind == "su" || kind == "yarn")) kind = "longrope";

  // A field at the top level overrides the one inside. Without either it is the context, or the
  // top-level default of the family's configuration class.
  const int inner = fields.may_be_long ? kPhiOriginalContext
                                       : rope.Int("original_max_position_embeddings", kContextRange,
                                                  model.max_position);
  config.original_max_position = in.Int("original_max_position_embeddings", kContextRange, inner);
  if (kind == "linear") {
    config.kind = RopeKind::kLinear;
    config.factor = rope.Number("factor", kFactorRange);
  } else if (kind == "llama3") {
    config.kind = RopeKind::kLlama3;
    ReadLlama3(rope, config);
  } else if (kind == "yarn") {
    config.kind = RopeKind::kYarn;
    ReadYarn(rope, model.max_position, config);
  } else if (kind == "longrope" && fields.may_be_long) {
    config.kind = RopeKind::kLongRope;
    ReadLongRope(rope, model, config);
  } else {
    rope.Refuse(rope.Has("rope_type") ? "rope_type" : "type",
                fields.may_be_long ? "default or longrope" : "one of default, linear, llama3, yarn",
                ShownName(kind));
  }
}

}  // namespace

RopeConfig ReadRope(FieldReader& in, const ModelConfig& model, const RopeFields& fields) {
  RopeConfig config;
  config.theta = in.Number(fields.theta_field, kThetaRange, fields.theta);
  bool is_read = false;
  const auto read = [&](FieldReader& rope) {
    config.theta = rope.Number("rope_theta", kThetaRange, config.theta);
    ReadKind(in, rope, model, fields, config);
    in.Fail(rope.status());
    is_read = true;
  };
  for (const char* field : {"rope_scaling", "rope_parameters"}) {
    const bool is_old = field == std::string_view("rope_scaling");
    const nlohmann::json* value = in.Get(field);
    if (value == nullptr || value->empty() || (is_old && !fields.reads_scaling)) continue;
    FieldReader rope = in.Object(field);
    if (fields.nested == nullptr || is_old) {
      read(rope);
    } else if (rope.Has(fields.nested)) {
      FieldReader nested = rope.Object(fields.nested);
      read(nested);
      in.Fail(rope.status());
    }
    if (is_read) break;  // transformers prefers rope_scaling if both are given
  }
  if (!is_read) ReadPartial(in, in, model, fields, config);
  return config;
}

}  // namespace mea
