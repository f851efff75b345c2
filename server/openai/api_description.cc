#include "server/openai/api_description.h"

#include <string_view>

#include "server/openai/json.h"

namespace mea::openai {

std::string_view OpenApiText();  // openapi.cc.in

std::string ApiDescription(bool has_keys, bool open_metrics) {
  if (!has_keys) return std::string(OpenApiText());
  Json description = Json::parse(OpenApiText());
  description["components"]["securitySchemes"]["key"] = {{"type", "http"}, {"scheme", "bearer"}};
  description["security"] = Json::array({{{"key", Json::array()}}});
  const Json refused = {
      {"description", "No key, or one without the right"},
      {"content", {{"application/json", {{"schema", {{"$ref", "#/components/schemas/Error"}}}}}}}};
  for (const auto& [path, methods] : description["paths"].items()) {
    const bool is_open =
        path == "/" || path == "/health" || path == "/ping" || (path == "/metrics" && open_metrics);
    for (Json& operation : methods) {
      if (is_open) {
        operation["security"] = Json::array();
      } else {
        operation["responses"]["401"] = operation["responses"]["403"] = refused;
      }
    }
  }
  return Dump(description);
}

}  // namespace mea::openai
