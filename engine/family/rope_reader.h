#pragma once

#include "engine/config/config.h"
#include "engine/storage/field_reader.h"

namespace mea {

// How a family says what it rotates by.
struct RopeFields {
  double theta = 10000.0;  // where it is not given
  const char* theta_field = "rope_theta";
  const char* nested = nullptr;  // rope_parameters has an object of this name for these layers
  bool reads_scaling = true;     // rope_scaling is of these layers
  bool may_be_partial = false;   // partial_rotary_factor
  bool may_be_long = false;      // LongRoPE, also called "su" and "yarn"
};

// Rotary parameters from the fields of config.json, old (rope_theta and rope_scaling at the top
// level) or new (rope_parameters, since transformers 5), with transformers' precedence and
// defaults. Refusals go to `in`.
RopeConfig ReadRope(FieldReader& in, const ModelConfig& config, const RopeFields& fields);

}  // namespace mea
