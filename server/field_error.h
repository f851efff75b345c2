#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace mea {

// INVALID_ARGUMENT about one field of a request. `field` is its path in GenerateRequest, and what
// the message begins with: FieldError("sampling.top_p", "0 is outside ...").
absl::Status FieldError(std::string_view field, std::string_view problem);
// The same for a message of somebody who does not know the field's path: it is kept as it is.
absl::Status WithField(const absl::Status& status, std::string_view field);

// The field that a status is about; nothing where it says none.
std::optional<std::string> FieldOf(const absl::Status& status);

}  // namespace mea
