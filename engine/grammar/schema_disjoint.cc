#include <algorithm>
#include <set>

#include "engine/grammar/json_schema.h"
#include "engine/grammar/limits.h"

namespace mea::grammar {
namespace {

using Json = nlohmann::ordered_json;

// Every schema is compared with every other one, so larger ones are not examined.
constexpr size_t kMaxCompared = 32;
constexpr size_t kMaxInside = 64;  // constants, properties
constexpr int kMaxReferences = 4;  // one after the other

const Json* Follow(const Json* schema, const Json& root) {
  for (int i = 0; i < kMaxReferences && schema != nullptr && schema->is_object(); ++i) {
    const auto ref = schema->find("$ref");
    if (ref == schema->end()) return schema;
    if (!ref->is_string()) return nullptr;
    schema = Resolve(root, ref->get_ref<const std::string&>());
  }
  return nullptr;
}

const char* TypeOf(const Json& value) {
  switch (value.type()) {
    case Json::value_t::null:
      return "null";
    case Json::value_t::boolean:
      return "boolean";
    case Json::value_t::string:
      return "string";
    case Json::value_t::array:
      return "array";
    case Json::value_t::object:
      return "object";
    default:
      return "number";
  }
}

// The constants that the schema allows; empty if it does not list them.
std::vector<const Json*> ConstantsOf(const Json& schema) {
  std::vector<const Json*> constants;
  if (const auto it = schema.find("const"); it != schema.end()) return {&*it};
  const auto it = schema.find("enum");
  if (it == schema.end() || !it->is_array() || it->size() > kMaxInside) return {};
  for (const Json& value : *it) constants.push_back(&value);
  return constants;
}

// The types that it allows, integers as numbers; empty if it does not name types.
std::set<std::string> TypesOf(const Json& schema) {
  std::set<std::string> types;
  for (const Json* constant : ConstantsOf(schema)) types.insert(TypeOf(*constant));
  if (!types.empty()) return types;
  const auto type = schema.find("type");
  if (type == schema.end()) return {};
  for (const Json& name : type->is_array() ? *type : Json::array({*type})) {
    if (!name.is_string()) return {};
    types.insert(name == "integer" ? "number" : name.get<std::string>());
  }
  return types;
}

bool Requires(const Json& schema, const std::string& key) {
  const auto required = schema.find("required");
  return required != schema.end() && required->is_array() &&
         std::find(required->begin(), required->end(), key) != required->end();
}

bool IsSmallObject(const Json& schema) {
  const auto properties = schema.find("properties");
  const auto required = schema.find("required");
  return TypesOf(schema) == std::set<std::string>{"object"} && properties != schema.end() &&
         properties->is_object() && properties->size() <= kMaxInside && required != schema.end() &&
         required->size() <= kMaxInside;
}

enum class Look { kAtItself, kInside };

bool TwoAreDisjoint(const Json& a, const Json& b, Look look) {
  if (!a.is_object() || !b.is_object()) return false;
  const std::set<std::string> types = TypesOf(a);
  const std::set<std::string> others = TypesOf(b);
  if (!types.empty() && !others.empty() &&
      std::none_of(types.begin(), types.end(),
                   [&](const std::string& type) { return others.contains(type); })) {
    return true;
  }
  const std::vector<const Json*> constants = ConstantsOf(a);
  const std::vector<const Json*> other_constants = ConstantsOf(b);
  if (!constants.empty() && !other_constants.empty()) {
    return std::none_of(constants.begin(), constants.end(), [&](const Json* value) {
      return std::any_of(other_constants.begin(), other_constants.end(),
                         [&](const Json* other) { return *other == *value; });
    });
  }
  if (look == Look::kAtItself || !IsSmallObject(a) || !IsSmallObject(b)) return false;
  for (const auto& [key, property] : a["properties"].items()) {
    const auto other = b["properties"].find(key);
    if (other == b["properties"].end() || !Requires(a, key) || !Requires(b, key)) continue;
    if (TwoAreDisjoint(property, *other, Look::kAtItself)) return true;
  }
  return false;
}

}  // namespace

bool AreDisjoint(const Json& schemas, const Json& root) {
  if (schemas.size() > kMaxCompared) return false;
  std::vector<const Json*> targets;
  for (const Json& schema : schemas) {
    targets.push_back(Follow(&schema, root));
    if (targets.back() == nullptr) return false;
    for (size_t i = 0; i + 1 < targets.size(); ++i) {
      if (!TwoAreDisjoint(*targets[i], *targets.back(), Look::kInside)) return false;
    }
  }
  return true;
}

const Json* Resolve(const Json& root, std::string_view ref) {
  if (ref == "#") return &root;
  if (!ref.starts_with("#/") || ref.find('%') != ref.npos) return nullptr;
  const Json::json_pointer pointer = [&] {
    try {
      return Json::json_pointer(std::string(ref.substr(1)));
    } catch (const Json::exception&) {
      return Json::json_pointer("/\x01");  // an escape that is none: points nowhere
    }
  }();
  try {
    return root.contains(pointer) ? &root.at(pointer) : nullptr;
  } catch (const Json::exception&) {
    return nullptr;
  }
}

}  // namespace mea::grammar
