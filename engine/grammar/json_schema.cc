#include "engine/grammar/json_schema.h"

#include <algorithm>
#include <array>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/grammar/formats.h"
#include "engine/grammar/limits.h"
#include "engine/grammar/regex_check.h"

namespace mea::grammar {
namespace {

using Json = nlohmann::ordered_json;
using Names = std::initializer_list<const char*>;

absl::Status Refuse(const std::string& what) { return absl::InvalidArgumentError(what); }

absl::Status RefuseAt(const std::string& path, const std::string& what) {
  constexpr size_t kMostOfPath = 100;
  return Refuse(
      absl::StrCat("schema ", path.empty() ? "#" : path.substr(0, kMostOfPath), ": ", what));
}

// The keywords that say something of values of one type, and of no other.
struct Family {
  const char* type;
  std::vector<const char*> keywords;
};
const std::array<Family, 4>& Families() {
  static const std::array<Family, 4> families = {{
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

// Keywords of the drafts that restrict documents and that nothing here can hold a completion to.
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

bool HasAny(const Json& schema, const std::vector<const char*>& names) {
  return std::any_of(names.begin(), names.end(),
                     [&](const char* name) { return schema.contains(name); });
}

// Walks the schemas of a document and puts each into its exact form, in place.
class Preparer {
 public:
  Preparer(const Json& root, Patterns& patterns) : root_(root), patterns_(patterns) {}

  absl::Status Run(Json& schema) {
    if (absl::Status s = Prepare(schema, "", 0); !s.ok()) return s;
    if (!references_.empty()) Collect(schema);
    for (const std::string& ref : references_) {
      const Json* const target = Resolve(root_, ref);
      if (target == nullptr || !schemas_.contains(target)) {
        return Refuse(absl::StrCat("schema: $ref \"", ref.substr(0, 80),
                                   "\" points to no schema of this document"));
      }
    }
    return absl::OkStatus();
  }

 private:
  absl::Status Prepare(Json& schema, const std::string& path, int depth) {
    if (++num_schemas_ > kMaxSchemaNodes) {
      return Refuse(absl::StrCat("schema has more than ", kMaxSchemaNodes, " schemas inside"));
    }
    if (depth > kMaxSchemaDepth) {
      return Refuse(absl::StrCat("schema is more than ", kMaxSchemaDepth, " schemas deep"));
    }
    if (schema.is_boolean()) {
      return schema.get<bool>() ? absl::OkStatus() : RefuseAt(path, "false matches nothing");
    }
    if (!schema.is_object()) return RefuseAt(path, "is neither an object nor a boolean");
    for (const char* name : kNotHeld) {
      if (schema.contains(name)) return RefuseAt(path, absl::StrCat(name, " is not supported"));
    }
    if (schema.contains("$id") && depth > 0) return RefuseAt(path, "$id is not supported here");
    if (absl::Status s = CheckType(schema, path); !s.ok()) return s;
    if (const auto it = schema.find("uniqueItems"); it != schema.end()) {
      if (*it != false) return RefuseAt(path, "uniqueItems is not supported");
      schema.erase("uniqueItems");
    }
    for (const char* name : {"$defs", "definitions"}) {
      if (absl::Status s = PrepareEach(schema, name, path, depth); !s.ok()) return s;
    }
    if (schema.contains("$ref")) return PrepareRef(schema, path);
    if (schema.contains("const") || schema.contains("enum")) return PrepareConstants(schema, path);
    for (const char* name : {"anyOf", "oneOf", "allOf"}) {
      if (schema.contains(name)) return PrepareBranches(schema, name, path, depth);
    }
    return PrepareTyped(schema, path, depth);
  }

  // Notes the places of all schemas, once they move no more.
  void Collect(const Json& schema) {
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

  // A name, or a few of them; else everything that copies it would copy too much.
  absl::Status CheckType(const Json& schema, const std::string& path) {
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

  // Every member of an object of schemas.
  absl::Status PrepareEach(Json& schema, const char* name, const std::string& path, int depth) {
    const auto members = schema.find(name);
    if (members == schema.end()) return absl::OkStatus();
    if (!members->is_object()) return RefuseAt(path, absl::StrCat(name, " is not an object"));
    for (auto& [key, member] : members->items()) {
      if (absl::Status s = Prepare(member, absl::StrCat(path, "/", name, "/", key), depth + 1);
          !s.ok()) {
        return s;
      }
    }
    return absl::OkStatus();
  }

  // What stands beside `name` and restricts documents; null where nothing does.
  const char* Beside(const Json& schema, const char* name, Names harmless = {}) {
    const auto is_other = [&](const char* other) {
      return std::string_view(other) != name && schema.contains(other) &&
             std::none_of(harmless.begin(), harmless.end(),
                          [&](const char* h) { return std::string_view(h) == other; });
    };
    for (const char* other : {"$ref", "const", "enum", "anyOf", "oneOf", "allOf", "type"}) {
      if (is_other(other)) return other;
    }
    for (const Family& family : Families()) {
      for (const char* other : family.keywords) {
        if (is_other(other)) return other;
      }
    }
    return nullptr;
  }

  absl::Status PrepareRef(Json& schema, const std::string& path) {
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

  absl::Status PrepareConstants(Json& schema, const std::string& path) {
    const char* const name = schema.contains("const") ? "const" : "enum";
    if (const char* other = Beside(schema, name, {"type"})) {
      return RefuseAt(path, absl::StrCat(other, " beside ", name, " is not supported"));
    }
    Json values = schema.contains("const") ? Json::array({schema["const"]}) : schema["enum"];
    if (!values.is_array() || values.empty()) return RefuseAt(path, "enum is not a list of values");
    if (num_constants_ += static_cast<int>(values.size()); num_constants_ > kMaxEnumValues) {
      return Refuse(
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

  static bool HasType(const Json& value, const Json& types) {
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

  absl::Status PrepareBranches(Json& schema, const char* name, const std::string& path, int depth) {
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
      if (absl::Status s =
              Prepare(schema[name][i], absl::StrCat(path, "/", name, "/", i), depth + 1);
          !s.ok()) {
        return s;
      }
    }
    if (std::string_view(name) == "oneOf" && !AreDisjoint(schema[name], root_)) {
      return RefuseAt(path,
                      "oneOf is not supported where a document might match two of its schemas; use "
                      "anyOf, or a required property with a const in each");
    }
    return absl::OkStatus();
  }

  absl::Status PrepareTyped(Json& schema, const std::string& path, int depth) {
    if (!schema.contains("type")) {
      const char* only = nullptr;
      for (const Family& family : Families()) {
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
    for (const Family& family : Families()) {
      const bool applies =
          has(family.type) || (family.type == std::string("number") && has("integer"));
      if (applies) continue;
      for (const char* name : family.keywords) schema.erase(name);  // they say nothing here
    }
    if (has("object")) {
      if (absl::Status s = PrepareObject(schema, path, depth); !s.ok()) return s;
    }
    if (has("array")) {
      if (absl::Status s = PrepareArray(schema, path, depth); !s.ok()) return s;
    }
    if (has("string")) {
      if (absl::Status s = PrepareString(schema, path); !s.ok()) return s;
    }
    if (schema.contains("multipleOf") && has("number")) {
      return RefuseAt(path, "multipleOf is supported for integers alone");
    }
    return absl::OkStatus();
  }

  absl::Status CheckCounts(const Json& schema, const std::string& path, Names names) {
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

  absl::Status PrepareObject(Json& schema, const std::string& path, int depth) {
    if (absl::Status s = CheckCounts(schema, path, {"minProperties", "maxProperties"}); !s.ok()) {
      return s;
    }
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
        return RefuseAt(path,
                        absl::StrCat(name, " with this additionalProperties is not supported"));
      }
      if (has_patterns) schema["additionalProperties"] = false;
      if (has_names && additional == schema.end()) schema["additionalProperties"] = true;
    }
    if (absl::Status s = ListRequired(schema, path); !s.ok()) return s;
    if (absl::Status s = CountOptional(schema, path); !s.ok()) return s;
    // Closed where its properties are listed and nothing is said of others; as README.md has it.
    if (!schema.contains("additionalProperties")) {
      schema["additionalProperties"] = !schema.contains("properties");
    }
    if (schema["additionalProperties"] != false && !schema["additionalProperties"].is_boolean()) {
      if (absl::Status s = Prepare(schema["additionalProperties"],
                                   absl::StrCat(path, "/additionalProperties"), depth + 1);
          !s.ok()) {
        return s;
      }
    }
    const bool is_open = schema["additionalProperties"] != false || has_patterns;
    if (is_open && schema.contains("minProperties") && schema["minProperties"] > 1) {
      // Nothing keeps a key from being repeated.
      return RefuseAt(path, "minProperties above 1 is not supported where keys are not listed");
    }
    if (has_patterns) {
      if (absl::Status s = PreparePatternKeys(schema["patternProperties"], path); !s.ok()) return s;
    }
    for (const char* name : {"properties", "patternProperties"}) {
      if (absl::Status s = PrepareEach(schema, name, path, depth); !s.ok()) return s;
    }
    if (!has_names) return absl::OkStatus();
    Json& names = schema["propertyNames"];
    if (names.is_object() && !names.contains("type")) names["type"] = "string";
    return Prepare(names, absl::StrCat(path, "/propertyNames"), depth + 1);
  }

  // Which of the optional properties follows which: the library's work grows with their product.
  absl::Status CountOptional(const Json& schema, const std::string& path) {
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

  // A property that is required and not listed may be anything, where others are let in at all.
  absl::Status ListRequired(Json& schema, const std::string& path) {
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

  absl::Status PreparePatternKeys(Json& properties, const std::string& path) {
    if (!properties.is_object() || properties.size() != 1) {
      return RefuseAt(path, "patternProperties with more than one pattern is not supported");
    }
    absl::StatusOr<std::string> pattern = AddPattern(properties.begin().key(), path);
    if (!pattern.ok()) return pattern.status();
    Json value = properties.begin().value();
    properties = Json::object({{*pattern, std::move(value)}});
    return absl::OkStatus();
  }

  absl::StatusOr<std::string> AddPattern(const std::string& regex, const std::string& path) {
    absl::StatusOr<std::string> pattern = PrepareRegex(
        absl::StrCat("schema ", path.substr(0, 100), "/pattern"), regex, patterns_.budget);
    if (!pattern.ok()) return pattern;
    std::vector<std::string>& known = patterns_.regexes;
    if (std::find(known.begin(), known.end(), *pattern) == known.end()) known.push_back(*pattern);
    if (known.size() > kMaxPatterns) {
      return Refuse(absl::StrCat("schema has more than ", kMaxPatterns, " patterns"));
    }
    return pattern;
  }

  absl::Status PrepareArray(Json& schema, const std::string& path, int depth) {
    if (absl::Status s = CheckCounts(schema, path, {"minItems", "maxItems"}); !s.ok()) return s;
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
        if (absl::Status s = Prepare(item, absl::StrCat(path, "/prefixItems/", i), depth + 1);
            !s.ok()) {
          return s;
        }
      }
    }
    if (!schema.contains("items")) {
      const bool wants_more = schema.contains("minItems") && schema["minItems"] > num_listed;
      schema["items"] = num_listed == 0 || wants_more;
    }
    if (schema["items"].is_boolean()) return absl::OkStatus();
    return Prepare(schema["items"], absl::StrCat(path, "/items"), depth + 1);
  }

  absl::Status PrepareString(Json& schema, const std::string& path) {
    if (absl::Status s = CheckCounts(schema, path, {"minLength", "maxLength"}); !s.ok()) return s;
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
    absl::StatusOr<std::string> prepared = AddPattern(pattern->get<std::string>(), path);
    if (!prepared.ok()) return prepared.status();
    *pattern = *std::move(prepared);
    return absl::OkStatus();
  }

  const Json& root_;
  Patterns& patterns_;
  std::set<std::string> references_;
  std::set<const Json*> schemas_;  // every place that is a schema
  int64_t optional_budget_ = kMaxOptional;
  int num_schemas_ = 0;
  int num_constants_ = 0;
};

}  // namespace

absl::Status CheckJsonDepth(std::string_view field, std::string_view text) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      in_string = c != '"';
      continue;
    }
    in_string = c == '"';
    depth += (c == '{' || c == '[') - (c == '}' || c == ']');
    if (depth > kMaxJsonDepth) {
      return Refuse(
          absl::StrCat(std::string(field), " has brackets more than ", kMaxJsonDepth, " deep"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<Json> ParseJson(std::string_view field, std::string_view text) {
  if (text.size() > kMaxSchemaBytes) {
    return Refuse(
        absl::StrCat(std::string(field), " of ", text.size(), " bytes exceeds ", kMaxSchemaBytes));
  }
  if (absl::Status s = CheckJsonDepth(field, text); !s.ok()) return s;
  Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) return Refuse(absl::StrCat(std::string(field), " is not valid JSON"));
  return json;
}

absl::Status PrepareSchema(Json& schema, Patterns& patterns) {
  return Preparer(schema, patterns).Run(schema);
}

absl::StatusOr<PreparedSchema> PrepareSchema(std::string_view text) {
  absl::StatusOr<Json> schema = ParseJson("schema", text);
  if (!schema.ok()) return schema.status();
  PreparedSchema prepared;
  if (absl::Status s = PrepareSchema(*schema, prepared.patterns); !s.ok()) return s;
  prepared.text = schema->dump();
  return prepared;
}

}  // namespace mea::grammar
