#pragma once

#include <absl/status/statusor.h>

#include <memory>
#include <string_view>

#include "engine/text/jinja/ast.h"

namespace mea::jinja {

// Reads a template (at most kMaxSourceBytes of valid UTF-8). Errors name the line.
absl::StatusOr<std::unique_ptr<const Program>> ParseTemplate(std::string_view source);

}  // namespace mea::jinja
