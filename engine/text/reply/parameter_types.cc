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

constexpr int kMaxTypeDepth = 16;  // of anyOf, oneOf, allOf and $ref

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
  if (value.is_string()) {
    const auto& text = value.get_ref<const std::string&>();
    return reply::Trimmed(text) == text ? ParameterTypes::kWord : ParameterTypes::kString;
  }
  return value.is_array() ? ParameterTypes::kArray : ParameterTypes::kObject;
}

// The types of the parameters of one function, whose schema is `root`. Looks at each part of it
// once.
class SchemaTypes {
 public:
  explicit SchemaTypes(const TypesJson& root) : root_(root) {}

  uint8_t Of(const TypesJson& schema, int depth = 0) {
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
    uint8_t listed = 0;  // what the schema says more exactly than by "type"
    if (const auto values = schema.find("enum"); values != schema.end() && values->is_array()) {
      for (const auto& value : *values) listed |= TypeOfValue(value);
    }
    if (const auto value = schema.find("const"); value != schema.end()) {
      listed |= TypeOfValue(*value);
    }
    const bool is_shaped = schema.contains("pattern") || schema.contains("format");
    if (is_shaped && (types & ParameterTypes::kString)) listed |= ParameterTypes::kWord;
    if (listed != 0) types &= ~ParameterTypes::kString;
    types |= listed;
    for (const char* choice : {"anyOf", "oneOf", "allOf"}) {
      const auto schemas = schema.find(choice);
      if (schemas == schema.end() || !schemas->is_array()) continue;
      for (const auto& inner : *schemas) types |= Of(inner, depth + 1);
    }
    const auto ref = schema.find("$ref");
    if (ref == schema.end() || !ref->is_string()) return types;
    return types | OfReference(ref->get_ref<const std::string&>(), depth);
  }

 private:
  // "#/$defs/Name", as pydantic refers to classes.
  uint8_t OfReference(const std::string& ref, int depth) {
    const auto [known, is_new] = known_.try_emplace(ref, 0);  // one to itself says nothing
    if (!is_new) return known->second;
    for (const char* group : {"$defs", "definitions"}) {
      const std::string start = absl::StrCat("#/", group, "/");
      const auto schemas = root_.find(group);
      if (!ref.starts_with(start) || schemas == root_.end() || !schemas->is_object()) continue;
      const auto schema = schemas->find(ref.substr(start.size()));
      if (schema != schemas->end()) known->second = Of(*schema, depth + 1);
    }
    return known->second;
  }

  const TypesJson& root_;
  std::map<std::string, uint8_t> known_;  // by reference
};

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
    SchemaTypes types_of(*parameters);
    for (const auto& [key, schema] : properties->items()) of_tool[key] = types_of.Of(schema);
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
  const bool is_text = types & (ParameterTypes::kString | ParameterTypes::kWord);
  if (brackets || !is_text) {
    // Also JSON that fits none of the types.
    const bool nested = trimmed.starts_with('{') || trimmed.starts_with('[');
    if ((nested || !is_text) && TypesJson::accept(trimmed)) return std::string(trimmed);
  }
  const bool is_word = (types & ParameterTypes::kWord) && !(types & ParameterTypes::kString);
  std::string json = "\"";
  AppendJsonEscaped(is_word ? trimmed : text, &json);
  return json + '"';
}

}  // namespace reply
}  // namespace mea
