#pragma once

#include "absl/status/status.h"
#include "engine/config/config.h"
#include "engine/storage/field_reader.h"

namespace mea {

// The object head_composition of config.json into a configuration whose other fields have been
// read: its attention, and the heads and windows of its layers. The first refusal.
absl::Status ReadHeadComposition(FieldReader in, ModelConfig& config);

}  // namespace mea
