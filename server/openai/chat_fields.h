#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "server/openai/json_reader.h"
#include "server/serving.h"

namespace mea::openai {

// NOT_FOUND if "model" is set and is not the one that is served.
absl::Status CheckModelField(JsonReader& reader, const Serving& serving);

// The tokens of the conversation of a chat completion's fields: messages, tools, template
// variables.
absl::StatusOr<std::vector<int32_t>> RenderMessages(JsonReader& reader, const Serving& serving,
                                                    StillWanted still_wanted);

}  // namespace mea::openai
