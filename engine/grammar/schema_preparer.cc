#include "engine/grammar/schema_preparer.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/grammar/limits.h"
#include "kernels/status_macros.h"

namespace mea::grammar {
namespace {

using Json = nlohmann::ordered_json;

// Keywords of the drafts that restrict documents and that cannot be enforced here.
constexpr std::array kNotHeld = {"not",
                                 "if",
                                 "then",
                                 "else",
                                 "dependentRequired",
                                 "dependencies",
                                 "contains",
                                 "minContains",
                                 "maxContains",
                                 "dependentSchemas",
                                 "$dynamicRef",
                                 "$recursiveRef",
                                 "disallow",
                                 "extends",
                                 "divisibleBy"};

}  // namespace

const std::array<KeywordFamily, 4>& KeywordFamilies() {
  static const std::array<KeywordFamily, 4> families = {{
      {"object",
       {"properties", "required", "additionalProperties", "patternProperties", "propertyNames",
        "minProperties", "maxProperties", "unevaluatedProperties"}},
      {"array",
       {"items", "prefixItems", "additionalItems", "minItems", "maxItems", "unevaluatedItems"}},
      {"string", {"minLength", "maxLength", "pattern", "format"}},
      {"number", {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}},
  }};
  return families;
}

absl::Status RefuseAt(const std::string& path, const std::string& what) {
  constexpr size_t kMostOfPath = 100;
  return absl::InvalidArgumentError(
      absl::StrCat("schema ", path.empty() ? "#" : path.substr(0, kMostOfPath), ": ", what));
}

absl::Status SchemaPreparer::Run(Json& schema) {
  MEA_RETURN_IF_ERROR(Prepare(schema, "", 0));
  if (!references_.empty()) Collect(schema);
  for (const std::string& ref : references_) {
    const Json* const target = Resolve(root_, ref);
    if (target == nullptr || !schemas_.contains(target)) {
      return absl::InvalidArgumentError(absl::StrCat("schema: $ref \"", ref.substr(0, 80),
                                                     "\" points to no schema of this document"));
    }
  }
  return absl::OkStatus();
}

absl::Status SchemaPreparer::Prepare(Json& schema, const std::string& path, int depth) {
  if (++num_schemas_ > kMaxSchemaNodes) {
    return absl::InvalidArgumentError(
        absl::StrCat("schema has more than ", kMaxSchemaNodes, " schemas inside"));
  }
  if (depth > kMaxSchemaDepth) {
    return absl::InvalidArgumentError(
        absl::StrCat("schema is more than ", kMaxSchemaDepth, " schemas deep"));
  }
  if (schema.is_boolean()) {
    return schema.get<bool>() ? absl::OkStatus() : RefuseAt(path, "false matches nothing");
  }
  if (!schema.is_object()) return RefuseAt(path, "is neither an object nor a boolean");
  for (const char* name : kNotHeld) {
    if (schema.contains(name)) return RefuseAt(path, absl::StrCat(name, " is not supported"));
  }
  if (schema.contains("$id") && depth > 0) return RefuseAt(path, "$id is not supported here");
  MEA_RETURN_IF_ERROR(CheckType(schema, path));
  if (const auto it = schema.find("uniqueItems"); it != schema.end()) {
    if (*it != false) return RefuseAt(path, "uniqueItems is not supported");
    schema.erase("uniqueItems");
  }
  for (const char* name : {"$defs", "definitions"}) {
    MEA_RETURN_IF_ERROR(PrepareEach(schema, name, path, depth));
  }
  if (schema.contains("$ref")) return PrepareRef(schema, path);
  if (schema.contains("const") || schema.contains("enum")) return PrepareConstants(schema, path);
  for (const char* name : {"anyOf", "oneOf", "allOf"}) {
    if (schema.contains(name)) return PrepareBranches(schema, name, path, depth);
  }
  return PrepareTyped(schema, path, depth);
}

void SchemaPreparer::Collect(const Json& schema) {
  schemas_.insert(&schema);
  if (!schema.is_object()) return;
  for (const char* name : {"properties", "patternProperties", "$defs", "definitions", "anyOf",
                           "oneOf", "allOf", "prefixItems"}) {
    const auto it = schema.find(name);
    if (it == schema.end()) continue;
    for (const Json& member : *it) Collect(member);
  }
  for (const char* name : {"additionalProperties", "items", "propertyNames"}) {
    if (const auto it = schema.find(name); it != schema.end()) Collect(*it);
  }
}

absl::Status SchemaPreparer::CheckType(const Json& schema, const std::string& path) {
  static const std::set<std::string> names = {"null",   "boolean", "object", "array",
                                              "number", "string",  "integer"};
  const auto type = schema.find("type");
  if (type == schema.end()) return absl::OkStatus();
  if (type->is_array() && (type->empty() || type->size() > names.size())) {
    return RefuseAt(path, "type is not one of the seven types or a list of them");
  }
  for (const Json& name : type->is_array() ? *type : Json::array({*type})) {
    if (!name.is_string() || !names.contains(name.get<std::string>())) {
      return RefuseAt(path, "type is not one of the seven types or a list of them");
    }
  }
  return absl::OkStatus();
}

absl::Status SchemaPreparer::PrepareEach(Json& schema, const char* name, const std::string& path,
                                         int depth) {
  const auto members = schema.find(name);
  if (members == schema.end()) return absl::OkStatus();
  if (!members->is_object()) return RefuseAt(path, absl::StrCat(name, " is not an object"));
  for (auto& [key, member] : members->items()) {
    MEA_RETURN_IF_ERROR(Prepare(member, absl::StrCat(path, "/", name, "/", key), depth + 1));
  }
  return absl::OkStatus();
}

const char* SchemaPreparer::Beside(const Json& schema, const char* name, Names harmless) {
  const auto is_other = [&](const char* other) {
    return std::string_view(other) != name && schema.contains(other) &&
           std::none_of(harmless.begin(), harmless.end(),
                        [&](const char* h) { return std::string_view(h) == other; });
  };
  for (const char* other : {"$ref", "const", "enum", "anyOf", "oneOf", "allOf", "type"}) {
    if (is_other(other)) return other;
  }
  for (const KeywordFamily& family : KeywordFamilies()) {
    for (const char* other : family.keywords) {
      if (is_other(other)) return other;
    }
  }
  return nullptr;
}

absl::Status SchemaPreparer::PrepareRef(Json& schema, const std::string& path) {
  const Json& ref = schema["$ref"];
  if (!ref.is_string()) return RefuseAt(path, "$ref is not a string");
  const std::string& to = ref.get_ref<const std::string&>();
  if (!to.starts_with('#')) {
    return RefuseAt(path, absl::StrCat("$ref \"", to.substr(0, 80),
                                       "\" leads out of the document; only # and #/... do not"));
  }
  if (const char* other = Beside(schema, "$ref")) {
    return RefuseAt(path, absl::StrCat(other, " beside $ref is not supported"));
  }
  references_.insert(to);
  return absl::OkStatus();
}

absl::Status SchemaPreparer::PrepareConstants(Json& schema, const std::string& path) {
  const char* const name = schema.contains("const") ? "const" : "enum";
  if (const char* other = Beside(schema, name, {"type"})) {
    return RefuseAt(path, absl::StrCat(other, " beside ", name, " is not supported"));
  }
  Json values = schema.contains("const") ? Json::array({schema["const"]}) : schema["enum"];
  if (!values.is_array() || values.empty()) return RefuseAt(path, "enum is not a list of values");
  if (num_constants_ += static_cast<int>(values.size()); num_constants_ > kMaxEnumValues) {
    return absl::InvalidArgumentError(
        absl::StrCat("schema has more than ", kMaxEnumValues, " values in const and enum"));
  }
  if (const auto type = schema.find("type"); type != schema.end()) {
    const Json types = type->is_array() ? *type : Json::array({*type});
    values.erase(std::remove_if(values.begin(), values.end(),
                                [&](const Json& value) { return !HasType(value, types); }),
                 values.end());
    if (values.empty())
      return RefuseAt(path, absl::StrCat("no value of ", name, " is of its type"));
    schema.erase("type");
  }
  if (schema.contains("enum")) schema["enum"] = std::move(values);
  return absl::OkStatus();
}

bool SchemaPreparer::HasType(const Json& value, const Json& types) {
  return std::any_of(types.begin(), types.end(), [&](const Json& type) {
    if (type == "null") return value.is_null();
    if (type == "boolean") return value.is_boolean();
    if (type == "string") return value.is_string();
    if (type == "array") return value.is_array();
    if (type == "object") return value.is_object();
    if (type == "number") return value.is_number();
    return type == "integer" && value.is_number_integer();
  });
}

absl::Status SchemaPreparer::PrepareBranches(Json& schema, const char* name,
                                             const std::string& path, int depth) {
  Json& branches = schema[name];
  if (!branches.is_array() || branches.empty()) {
    return RefuseAt(path, absl::StrCat(name, " is not a list of schemas"));
  }
  if (const char* other = Beside(schema, name, {"type"})) {
    return RefuseAt(path, absl::StrCat(other, " beside ", name, " is not supported"));
  }
  if (const auto type = schema.find("type"); type != schema.end()) {
    for (Json& branch : branches) {
      if (!branch.is_object() || branch.contains("$ref")) {
        return RefuseAt(path, absl::StrCat("type beside ", name, " is not supported here"));
      }
      if (!branch.contains("type")) branch["type"] = *type;
      if (branch["type"] != *type) {
        return RefuseAt(path, absl::StrCat("type beside ", name, " differs from a type inside"));
      }
    }
    schema.erase("type");
  }
  if (std::string_view(name) == "allOf" && schema[name].size() > 1) {
    return RefuseAt(path, "allOf of more than one schema is not supported");
  }
  for (size_t i = 0; i < schema[name].size(); ++i) {
    MEA_RETURN_IF_ERROR(Prepare(schema[name][i], absl::StrCat(path, "/", name, "/", i), depth + 1));
  }
  if (std::string_view(name) == "oneOf" && !AreDisjoint(schema[name], root_)) {
    return RefuseAt(path,
                    "oneOf is not supported where a document might match two of its schemas; use "
                    "anyOf, or a required property with a const in each");
  }
  return absl::OkStatus();
}

}  // namespace mea::grammar
