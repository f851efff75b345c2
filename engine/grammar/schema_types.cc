#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/grammar/formats.h"
#include "engine/grammar/limits.h"
#include "engine/grammar/regex_check.h"
#include "engine/grammar/schema_preparer.h"
#include "kernels/status_macros.h"

namespace mea::grammar {
namespace {

bool HasAny(const nlohmann::ordered_json& schema, const std::vector<const char*>& names) {
  return std::any_of(names.begin(), names.end(),
                     [&](const char* name) { return schema.contains(name); });
}

}  // namespace

absl::Status SchemaPreparer::PrepareTyped(Json& schema, const std::string& path, int depth) {
  if (!schema.contains("type")) {
    const char* only = nullptr;
    for (const KeywordFamily& family : KeywordFamilies()) {
      if (!HasAny(schema, family.keywords)) continue;
      if (only != nullptr) {
        return RefuseAt(path, absl::StrCat("type is missing, and it has keywords of ", only,
                                           " and of ", family.type));
      }
      only = family.type;
    }
    if (only == nullptr) return absl::OkStatus();  // anything
    schema["type"] = only;
  }
  const Json types = schema["type"].is_array() ? schema["type"] : Json::array({schema["type"]});
  const auto has = [&](const std::string& type) {
    return std::find(types.begin(), types.end(), type) != types.end();
  };
  for (const KeywordFamily& family : KeywordFamilies()) {
    const bool applies =
        has(family.type) || (family.type == std::string("number") && has("integer"));
    if (applies) continue;
    for (const char* name : family.keywords) schema.erase(name);  // they say nothing here
  }
  if (has("object")) {
    MEA_RETURN_IF_ERROR(PrepareObject(schema, path, depth));
  }
  if (has("array")) {
    MEA_RETURN_IF_ERROR(PrepareArray(schema, path, depth));
  }
  if (has("string")) {
    MEA_RETURN_IF_ERROR(PrepareString(schema, path));
  }
  if (schema.contains("multipleOf") && has("number")) {
    return RefuseAt(path, "multipleOf is supported for integers alone");
  }
  return absl::OkStatus();
}

absl::Status SchemaPreparer::CheckCounts(const Json& schema, const std::string& path, Names names) {
  for (const char* name : names) {
    const auto it = schema.find(name);
    if (it == schema.end()) continue;
    if (!it->is_number_integer() || *it < 0 || *it > kMaxCount) {
      return RefuseAt(
          path, absl::StrCat(name, " ", it->dump().substr(0, 24), " is outside 0..", kMaxCount));
    }
  }
  return absl::OkStatus();
}

absl::Status SchemaPreparer::PrepareObject(Json& schema, const std::string& path, int depth) {
  MEA_RETURN_IF_ERROR(CheckCounts(schema, path, {"minProperties", "maxProperties"}));
  if (const auto it = schema.find("unevaluatedProperties"); it != schema.end()) {
    // Nothing else of this schema evaluates properties.
    if (!schema.contains("additionalProperties")) schema["additionalProperties"] = *it;
    schema.erase("unevaluatedProperties");
  }
  const bool has_patterns = schema.contains("patternProperties");
  const bool has_names = schema.contains("propertyNames");
  const bool is_listed = schema.contains("properties") && !schema["properties"].empty();
  if (has_patterns || has_names) {
    const char* const name = has_patterns ? "patternProperties" : "propertyNames";
    if (is_listed || schema.contains("required") || (has_patterns && has_names)) {
      return RefuseAt(path, absl::StrCat(name, " beside ",
                                         is_listed                     ? "properties"
                                         : schema.contains("required") ? "required"
                                                                       : "propertyNames",
                                         " is not supported"));
    }
    const auto additional = schema.find("additionalProperties");
    if (additional != schema.end() && (*additional == false) == has_names) {
      return RefuseAt(path, absl::StrCat(name, " with this additionalProperties is not supported"));
    }
    if (has_patterns) schema["additionalProperties"] = false;
    if (has_names && additional == schema.end()) schema["additionalProperties"] = true;
  }
  MEA_RETURN_IF_ERROR(ListRequired(schema, path));
  MEA_RETURN_IF_ERROR(CountOptional(schema, path));
  // Closed if it lists properties and does not mention others; see README.md.
  if (!schema.contains("additionalProperties")) {
    schema["additionalProperties"] = !schema.contains("properties");
  }
  if (schema["additionalProperties"] != false && !schema["additionalProperties"].is_boolean()) {
    MEA_RETURN_IF_ERROR(Prepare(schema["additionalProperties"],
                                absl::StrCat(path, "/additionalProperties"), depth + 1));
  }
  const bool is_open = schema["additionalProperties"] != false || has_patterns;
  if (is_open && schema.contains("minProperties") && schema["minProperties"] > 1) {
    // A key may be repeated.
    return RefuseAt(path, "minProperties above 1 is not supported where keys are not listed");
  }
  if (has_patterns) {
    MEA_RETURN_IF_ERROR(PreparePatternKeys(schema["patternProperties"], path));
  }
  for (const char* name : {"properties", "patternProperties"}) {
    MEA_RETURN_IF_ERROR(PrepareEach(schema, name, path, depth));
  }
  if (!has_names) return absl::OkStatus();
  Json& names = schema["propertyNames"];
  if (names.is_object() && !names.contains("type")) names["type"] = "string";
  return Prepare(names, absl::StrCat(path, "/propertyNames"), depth + 1);
}

absl::Status SchemaPreparer::CountOptional(const Json& schema, const std::string& path) {
  const auto properties = schema.find("properties");
  if (properties == schema.end()) return absl::OkStatus();
  const auto required = schema.find("required");
  const auto total = static_cast<int64_t>(properties->size());
  const auto num_required = static_cast<int64_t>(required == schema.end() ? 0 : required->size());
  optional_budget_ -= total * std::max<int64_t>(total - num_required, 0);
  if (optional_budget_ >= 0) return absl::OkStatus();
  return RefuseAt(path,
                  absl::StrCat("too many optional properties; properties times optional ones, "
                               "added up over all objects, exceed ",
                               kMaxOptional));
}

absl::Status SchemaPreparer::ListRequired(Json& schema, const std::string& path) {
  for (const char* name : {"properties", "required"}) {
    if (schema.contains(name) && schema[name].size() > kMaxSchemaNodes) {
      return RefuseAt(path, absl::StrCat(name, " has more than ", kMaxSchemaNodes, " members"));
    }
  }
  const auto required = schema.find("required");
  if (required == schema.end()) return absl::OkStatus();
  if (!required->is_array()) return RefuseAt(path, "required is not a list of names");
  const Json names = *required;
  for (const Json& name : names) {
    if (!name.is_string()) return RefuseAt(path, "required is not a list of names");
    const std::string& key = name.get_ref<const std::string&>();
    Json& properties = schema["properties"];
    if (properties.is_null()) properties = Json::object();
    if (!properties.is_object()) return RefuseAt(path, "properties is not an object");
    if (properties.contains(key)) continue;
    const auto others = schema.find("additionalProperties");
    if (others != schema.end() && *others != true) {
      return RefuseAt(
          path, absl::StrCat("required \"", key.substr(0, 40), "\" is not among its properties"));
    }
    properties[key] = true;
  }
  return absl::OkStatus();
}

absl::Status SchemaPreparer::PreparePatternKeys(Json& properties, const std::string& path) {
  if (!properties.is_object() || properties.size() != 1) {
    return RefuseAt(path, "patternProperties with more than one pattern is not supported");
  }
  MEA_ASSIGN_OR_RETURN(std::string pattern, AddPattern(properties.begin().key(), path));
  Json value = properties.begin().value();
  properties = Json::object({{pattern, std::move(value)}});
  return absl::OkStatus();
}

absl::StatusOr<std::string> SchemaPreparer::AddPattern(const std::string& regex,
                                                       const std::string& path) {
  MEA_ASSIGN_OR_RETURN(std::string pattern,
                       PrepareRegex(absl::StrCat("schema ", path.substr(0, 100), "/pattern"), regex,
                                    patterns_.budget));
  std::vector<std::string>& known = patterns_.regexes;
  if (std::find(known.begin(), known.end(), pattern) == known.end()) known.push_back(pattern);
  if (known.size() > kMaxPatterns) {
    return absl::InvalidArgumentError(
        absl::StrCat("schema has more than ", kMaxPatterns, " patterns"));
  }
  return pattern;
}

absl::Status SchemaPreparer::PrepareArray(Json& schema, const std::string& path, int depth) {
  MEA_RETURN_IF_ERROR(CheckCounts(schema, path, {"minItems", "maxItems"}));
  if (schema.contains("items") && schema["items"].is_array()) {  // of older drafts
    schema["prefixItems"] = std::exchange(schema["items"], true);
    if (schema.contains("additionalItems"))
      schema["items"] = schema["additionalItems"];
    else
      schema.erase("items");
  }
  schema.erase("additionalItems");
  if (const auto it = schema.find("unevaluatedItems"); it != schema.end()) {
    if (!schema.contains("items")) schema["items"] = *it;
    schema.erase("unevaluatedItems");
  }
  const auto prefix = schema.find("prefixItems");
  size_t num_listed = 0;
  if (prefix != schema.end()) {
    if (!prefix->is_array()) return RefuseAt(path, "prefixItems is not a list of schemas");
    num_listed = prefix->size();
    for (size_t i = 0; i < num_listed; ++i) {
      Json& item = (*prefix)[i];
      if (item == true) item = Json::object();
      MEA_RETURN_IF_ERROR(Prepare(item, absl::StrCat(path, "/prefixItems/", i), depth + 1));
    }
  }
  if (!schema.contains("items")) {
    const bool wants_more = schema.contains("minItems") && schema["minItems"] > num_listed;
    schema["items"] = num_listed == 0 || wants_more;
  }
  if (schema["items"].is_boolean()) return absl::OkStatus();
  return Prepare(schema["items"], absl::StrCat(path, "/items"), depth + 1);
}

absl::Status SchemaPreparer::PrepareString(Json& schema, const std::string& path) {
  MEA_RETURN_IF_ERROR(CheckCounts(schema, path, {"minLength", "maxLength"}));
  const bool has_length = schema.contains("minLength") || schema.contains("maxLength");
  if (const auto format = schema.find("format"); format != schema.end()) {
    if (!format->is_string()) return RefuseAt(path, "format is not a string");
    const std::string name = format->get<std::string>();
    schema.erase("format");
    if (std::optional<std::string> regex = PatternOfFormat(name)) {
      if (has_length || schema.contains("pattern")) {
        return RefuseAt(path, absl::StrCat(has_length ? "a length" : "pattern", " beside format ",
                                           name, " is not supported"));
      }
      schema["pattern"] = *regex;
      return absl::OkStatus();
    }
  }
  const auto pattern = schema.find("pattern");
  if (pattern == schema.end()) return absl::OkStatus();
  if (has_length) return RefuseAt(path, "a length beside pattern is not supported");
  if (!pattern->is_string()) return RefuseAt(path, "pattern is not a string");
  MEA_ASSIGN_OR_RETURN(*pattern, AddPattern(pattern->get<std::string>(), path));
  return absl::OkStatus();
}

}  // namespace mea::grammar
