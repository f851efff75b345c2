#pragma once

#include "absl/status/status.h"
#include "engine/checkpoint/json.h"
#include "engine/model/config.h"

namespace mea {

// The object head_composition of config.json (MEA, KHA or IHA) into a configuration whose other
// fields have been read. The first refusal.
absl::Status ReadHeadComposition(FieldReader in, ModelConfig& config);

}  // namespace mea
