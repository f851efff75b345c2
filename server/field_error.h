#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace mea {

// INVALID_ARGUMENT about one field of a request. `field` is its path in GenerateRequest, and what
// the message begins with: FieldError("sampling.top_p", "0 is outside ...").
absl::Status FieldError(std::string_view field, std::string_view problem);
// The same for a message without the field's path, which is kept as it is.
absl::Status WithField(const absl::Status& status, std::string_view field);

// Marks a status whose message quotes what a client wrote: the log has the field alone.
absl::Status Quoting(const absl::Status& status);
bool Quotes(const absl::Status& status);

// The field that a status is about; absent if it names none.
std::optional<std::string> FieldOf(const absl::Status& status);

}  // namespace mea
