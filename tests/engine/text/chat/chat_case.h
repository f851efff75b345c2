#pragma once

#include <absl/status/statusor.h>

#include <nlohmann/json.hpp>

#include "engine/text/chat/chat_template.h"

namespace mea {

inline absl::Status NeverInterrupted() { return absl::OkStatus(); }

// The parts of a case that ChatInput holds, as JSON texts; those that are strings are such texts
// already (and keep integers that no C++ type holds).
ChatInput InputOfCase(const nlohmann::ordered_json& request);
absl::StatusOr<RenderedChat> RenderCaseAs(const nlohmann::ordered_json& request, bool* takes_parts);
// {"text", "inputs", "takes_parts"} or {"error"}; see render_chat.cc.
nlohmann::ordered_json RenderCase(const nlohmann::ordered_json& request);

}  // namespace mea
