#pragma once

#include <string>

namespace mea::openai {

// The description of the API: openapi.json and, where there are keys, what they are asked for.
std::string ApiDescription(bool has_keys, bool open_metrics);

}  // namespace mea::openai
