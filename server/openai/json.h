#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace mea::openai {

// Keys keep their order: a template prints tools as the client wrote them.
using Json = nlohmann::ordered_json;

// One line of JSON. Bytes that are not UTF-8 become U+FFFD.
inline std::string Dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace mea::openai
