#pragma once

#include <optional>

#include "engine/config/packed_format.h"
#include "engine/storage/field_reader.h"

namespace mea {

// `quantization_config`, as AutoGPTQ, GPTQModel and AutoAWQ write it; nothing where there is none.
// Refuses what changes the numbers and is not served.
std::optional<PackedFormat> ReadPackedFormat(FieldReader& in);

}  // namespace mea
