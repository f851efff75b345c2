#pragma once

#include "engine/config/config.h"
#include "engine/storage/json.h"

namespace mea {

// Rotary parameters from the fields of config.json, old (rope_theta and rope_scaling at the top
// level) or new (rope_parameters, since transformers 5), with transformers' precedence and
// defaults. Refusals go to `in`.
RopeConfig ReadRope(FieldReader& in, int max_position, double default_theta);

}  // namespace mea
