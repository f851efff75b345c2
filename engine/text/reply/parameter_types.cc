#include "engine/text/reply/parameter_types.h"

#include <absl/status/status.h>
#include <absl/strings/ascii.h>
#include <absl/strings/str_cat.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>

#include "engine/text/reply/call_sink.h"

namespace mea {
namespace {

using TypesJson = nlohmann::json;

constexpr int kMaxTypeDepth = 16;  // of anyOf, oneOf and allOf

uint8_t TypeNamed(std::string_view name) {
  constexpr std::pair<std::string_view, uint8_t> kNames[] = {
      {"null", ParameterTypes::kNull},     {"integer", ParameterTypes::kInteger},
      {"number", ParameterTypes::kNumber}, {"boolean", ParameterTypes::kBoolean},
      {"object", ParameterTypes::kObject}, {"array", ParameterTypes::kArray},
      {"string", ParameterTypes::kString}, {"int", ParameterTypes::kInteger},
      {"float", ParameterTypes::kNumber},  {"bool", ParameterTypes::kBoolean},
      {"dict", ParameterTypes::kObject},   {"list", ParameterTypes::kArray},
      {"str", ParameterTypes::kString}};
  for (const auto& [known, type] : kNames) {
    if (known == name) return type;
  }
  return 0;
}

uint8_t TypeOfValue(const TypesJson& value) {
  if (value.is_null()) return ParameterTypes::kNull;
  if (value.is_boolean()) return ParameterTypes::kBoolean;
  if (value.is_number_integer()) return ParameterTypes::kInteger;
  if (value.is_number()) return ParameterTypes::kNumber;
  if (value.is_string()) return ParameterTypes::kString;
  return value.is_array() ? ParameterTypes::kArray : ParameterTypes::kObject;
}

uint8_t TypesOfSchema(const TypesJson& schema, int depth) {
  if (!schema.is_object() || depth > kMaxTypeDepth) return 0;
  uint8_t types = 0;
  if (const auto type = schema.find("type"); type != schema.end()) {
    if (type->is_string()) types |= TypeNamed(type->get_ref<const std::string&>());
    if (type->is_array()) {
      for (const auto& name : *type) {
        if (name.is_string()) types |= TypeNamed(name.get_ref<const std::string&>());
      }
    }
  }
  if (const auto values = schema.find("enum"); values != schema.end() && values->is_array()) {
    for (const auto& value : *values) types |= TypeOfValue(value);
  }
  if (const auto value = schema.find("const"); value != schema.end()) types |= TypeOfValue(*value);
  for (const char* choice : {"anyOf", "oneOf", "allOf"}) {
    const auto schemas = schema.find(choice);
    if (schemas == schema.end() || !schemas->is_array()) continue;
    for (const auto& inner : *schemas) types |= TypesOfSchema(inner, depth + 1);
  }
  return types;
}

}  // namespace

absl::StatusOr<ParameterTypes> ParameterTypes::Read(std::string_view tools) {
  const auto array = TypesJson::parse(tools, nullptr, /*allow_exceptions=*/false);
  if (!array.is_array()) return absl::InvalidArgumentError("tools is not an array of JSON");
  ParameterTypes types;
  for (size_t i = 0; i < array.size(); ++i) {
    const auto function = array[i].is_object() ? array[i].find("function") : array[i].end();
    if (!array[i].is_object() || function == array[i].end() || !function->is_object()) {
      return absl::InvalidArgumentError(absl::StrCat("tools[", i, "].function is not an object"));
    }
    const auto name = function->find("name");
    if (name == function->end() || !name->is_string()) {
      return absl::InvalidArgumentError(absl::StrCat("tools[", i, "].function.name is no string"));
    }
    auto& of_tool = types.types_[name->get<std::string>()];
    const auto parameters = function->find("parameters");
    if (parameters == function->end() || !parameters->is_object()) continue;
    const auto properties = parameters->find("properties");
    if (properties == parameters->end() || !properties->is_object()) continue;
    for (const auto& [key, schema] : properties->items()) of_tool[key] = TypesOfSchema(schema, 0);
  }
  return types;
}

uint8_t ParameterTypes::Of(const std::string& tool, const std::string& parameter) const {
  const auto of_tool = types_.find(tool);
  if (of_tool == types_.end()) return kString;
  const auto type = of_tool->second.find(parameter);
  return type == of_tool->second.end() || type->second == 0 ? uint8_t{kString} : type->second;
}

namespace reply {
namespace {

// The text as a JSON number, if it is finite and of the wanted kind.
std::optional<std::string> JsonNumber(std::string_view text, bool integer) {
  const auto number = TypesJson::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!number.is_number() || (integer && !number.is_number_integer())) return std::nullopt;
  if (number.is_number_float() && !std::isfinite(number.get<double>())) return std::nullopt;
  return std::string(text);
}

}  // namespace

std::string JsonOfText(std::string_view text, uint8_t types) {
  const std::string_view trimmed = Trimmed(text);
  std::string lower(trimmed);
  for (char& c : lower) c = absl::ascii_tolower(static_cast<unsigned char>(c));
  if ((types & ParameterTypes::kNull) && lower == "null") return "null";
  for (const auto type : {ParameterTypes::kInteger, ParameterTypes::kNumber}) {
    if (!(types & type)) continue;
    if (auto json = JsonNumber(trimmed, type == ParameterTypes::kInteger)) return *json;
  }
  if (types & ParameterTypes::kBoolean) {
    if (lower == "true" || lower == "1") return "true";
    if (lower == "false" || lower == "0") return "false";
  }
  const bool brackets = types & (ParameterTypes::kObject | ParameterTypes::kArray);
  if (brackets || !(types & ParameterTypes::kString)) {
    // Also JSON that fits none of the types.
    const bool nested = trimmed.starts_with('{') || trimmed.starts_with('[');
    if ((nested || !(types & ParameterTypes::kString)) && TypesJson::accept(trimmed)) {
      return std::string(trimmed);
    }
  }
  std::string json = "\"";
  AppendJsonEscaped(text, &json);
  return json + '"';
}

}  // namespace reply
}  // namespace mea
