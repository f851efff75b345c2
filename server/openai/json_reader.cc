#include "server/openai/json_reader.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/field_error.h"
#include "server/limits.h"

namespace mea::openai {
namespace {

constexpr int kMaxQuotedBytes = 64;

std::string Quoted(const Json& value) {
  std::string text = Dump(value);
  if (text.size() <= kMaxQuotedBytes) return text;
  return absl::StrCat("a value of ", text.size(), " bytes");
}

}  // namespace

absl::StatusOr<Json> ParseBody(std::string_view body) {
  if (body.empty())
    return absl::InvalidArgumentError("the body is empty; a JSON object is expected");
  if (absl::Status status = CheckJsonBounds(body, kJsonBounds); !status.ok()) {
    return absl::InvalidArgumentError(absl::StrCat("the body ", status.message()));
  }
  Json json = Json::parse(body, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) return absl::InvalidArgumentError("the body is not valid JSON in UTF-8");
  if (!json.is_object()) {
    return absl::InvalidArgumentError(
        absl::StrCat("the body is ", json.type_name(), ", a JSON object is expected"));
  }
  return json;
}

std::string JsonReader::PathOf(std::string_view name) const {
  return path_.empty() ? std::string(name) : absl::StrCat(path_, ".", std::string(name));
}

const Json* JsonReader::Find(std::string_view name) const {
  const auto it = object_.find(std::string(name));
  return it == object_.end() || it->is_null() ? nullptr : &*it;
}

void JsonReader::Invalid(std::string_view name, std::string_view problem) {
  Refuse(Quoting(FieldError(PathOf(name), problem)));
}

void JsonReader::WrongType(std::string_view name, const Json& value, std::string_view expected) {
  Invalid(name, absl::StrCat("is ", Quoted(value), "; ", std::string(expected), " is expected"));
}

void JsonReader::NotServed(std::string_view name, std::string_view instead) {
  const Json* value = Find(name);
  if (value == nullptr || *value == Json(false) || *value == Json(0)) return;
  if ((value->is_array() || value->is_object() || value->is_string()) && value->empty()) return;
  Invalid(name, absl::StrCat("is not served", instead.empty() ? "" : "; ", std::string(instead)));
}

std::optional<bool> JsonReader::Bool(std::string_view name) {
  const Json* value = Find(name);
  if (value == nullptr) return std::nullopt;
  if (value->is_boolean()) return value->get<bool>();
  WrongType(name, *value, "true or false");
  return std::nullopt;
}

std::optional<double> JsonReader::Number(std::string_view name) {
  const Json* value = Find(name);
  if (value == nullptr) return std::nullopt;
  if (value->is_number()) return value->get<double>();
  WrongType(name, *value, "a number");
  return std::nullopt;
}

std::optional<int32_t> JsonReader::Int(std::string_view name) {
  const std::optional<double> number = Number(name);
  if (!number) return std::nullopt;
  if (*number == std::floor(*number) && std::abs(*number) <= std::numeric_limits<int32_t>::max()) {
    return static_cast<int32_t>(*number);
  }
  WrongType(name, *Find(name), "a whole number of 32 bits");
  return std::nullopt;
}

std::optional<uint64_t> JsonReader::Seed(std::string_view name) {
  const Json* value = Find(name);
  if (value == nullptr) return std::nullopt;
  if (value->is_number_unsigned()) return value->get<uint64_t>();
  if (value->is_number_integer()) return static_cast<uint64_t>(value->get<int64_t>());
  WrongType(name, *value, "a whole number of 64 bits");
  return std::nullopt;
}

std::optional<std::string> JsonReader::String(std::string_view name) {
  const Json* value = Find(name);
  if (value == nullptr) return std::nullopt;
  if (value->is_string()) return value->get<std::string>();
  WrongType(name, *value, "a string");
  return std::nullopt;
}

std::optional<std::string> JsonReader::OneOf(std::string_view name,
                                             std::initializer_list<std::string_view> values) {
  std::optional<std::string> text = String(name);
  if (!text || std::count(values.begin(), values.end(), *text) > 0) return text;
  std::vector<std::string> names(values.begin(), values.end());
  WrongType(name, *Find(name), absl::StrCat("one of ", absl::StrJoin(names, ", ")));
  return std::nullopt;
}

std::vector<int32_t> JsonReader::Ints(std::string_view name) {
  const Json* values = Array(name);
  std::vector<int32_t> ids;
  if (values == nullptr) return ids;
  ids.reserve(values->size());
  for (size_t i = 0; i < values->size(); ++i) {
    const Json& value = (*values)[i];
    if (!value.is_number_integer() || value < std::numeric_limits<int32_t>::min() ||
        value > std::numeric_limits<int32_t>::max()) {
      WrongType(absl::StrCat(std::string(name), "[", i, "]"), value, "a whole number of 32 bits");
      return {};
    }
    ids.push_back(value.get<int32_t>());
  }
  return ids;
}

std::vector<std::string> JsonReader::Strings(std::string_view name) {
  const Json* values = Array(name);
  std::vector<std::string> strings;
  if (values == nullptr) return strings;
  for (size_t i = 0; i < values->size(); ++i) {
    const Json& value = (*values)[i];
    if (!value.is_string()) {
      WrongType(absl::StrCat(std::string(name), "[", i, "]"), value, "a string");
      return {};
    }
    strings.push_back(value.get<std::string>());
  }
  return strings;
}

const Json* JsonReader::Object(std::string_view name) {
  const Json* value = Find(name);
  if (value == nullptr || value->is_object()) return value;
  WrongType(name, *value, "an object");
  return nullptr;
}

const Json* JsonReader::Array(std::string_view name) {
  const Json* value = Find(name);
  if (value == nullptr || value->is_array()) return value;
  WrongType(name, *value, "a list");
  return nullptr;
}

}  // namespace mea::openai
