#include "engine/storage/field_reader.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace mea {
namespace {

using nlohmann::json;

std::string RangeText(IntRange range) { return absl::StrCat(range.min, "..", range.max); }

}  // namespace

FieldReader::FieldReader(const json& object, const std::string& file, const std::string& path)
    : object_(object), file_(file), path_(path) {
  if (!object.is_object()) {
    Fail(absl::InvalidArgumentError(
        absl::StrCat(file, ": expected a JSON object, found ", ShownValue(object))));
  }
}

const json* FieldReader::Get(const char* name) const {
  const auto field = object_.find(name);
  return field == object_.end() || field->is_null() ? nullptr : &*field;
}

bool FieldReader::IsNull(const char* name) const {
  const auto field = object_.find(name);
  return field != object_.end() && field->is_null();
}

int FieldReader::CheckedInt(const std::string& name, const json& value, IntRange range) {
  // Numbers beyond 64 bits arrive as floats; they are out of every range here.
  const bool representable =
      value.is_number_integer() &&
      !(value.is_number_unsigned() && value.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX));
  if (representable) {
    const auto number = value.get<int64_t>();
    if (number >= range.min && number <= range.max) return static_cast<int>(number);
  }
  RefuseValue(name, absl::StrCat("an integer in ", RangeText(range)), value);
  return static_cast<int>(range.min);
}

int FieldReader::Int(const char* name, IntRange range, std::optional<int> fallback) {
  const json* value = Get(name);
  if (value != nullptr) return CheckedInt(name, *value, range);
  if (!fallback) Refuse(name, absl::StrCat("an integer in ", RangeText(range)), "no such field");
  return fallback.value_or(static_cast<int>(range.min));
}

double FieldReader::Number(const char* name, NumberRange range, std::optional<double> fallback) {
  const json* value = Get(name);
  if (value != nullptr) return CheckedNumber(name, *value, range);
  if (!fallback) {
    Refuse(name, absl::StrCat("a number in ", range.min, "..", range.max), "no such field");
  }
  return fallback.value_or(range.min);
}

double FieldReader::CheckedNumber(const std::string& name, const json& value, NumberRange range) {
  if (value.is_number()) {
    const auto number = value.get<double>();
    if (number >= range.min && number <= range.max) return number;
  }
  RefuseValue(name, absl::StrCat("a number in ", range.min, "..", range.max), value);
  return range.min;
}

std::vector<double> FieldReader::NumberList(const char* name, NumberRange range) {
  const json* value = Get(name);
  std::vector<double> numbers;
  if (value == nullptr) return numbers;
  if (!value->is_array()) RefuseValue(name, "a list of numbers", *value);
  for (size_t i = 0; value->is_array() && i < value->size() && status_.ok(); ++i) {
    numbers.push_back(CheckedNumber(absl::StrCat(name, "[", i, "]"), (*value)[i], range));
  }
  return numbers;
}

bool FieldReader::Bool(const char* name, bool fallback) {
  const json* value = Get(name);
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) {
    RefuseValue(name, "true or false", *value);
    return fallback;
  }
  return value->get<bool>();
}

std::string FieldReader::String(const char* name, std::optional<std::string> fallback) {
  const json* value = Get(name);
  if (value != nullptr && value->is_string()) return value->get<std::string>();
  if (value != nullptr) {
    RefuseValue(name, "a string", *value);
  } else if (!fallback) {
    Refuse(name, "a string", "no such field");
  }
  return fallback.value_or("");
}

std::vector<int> FieldReader::IntOrList(const char* name, IntRange range) {
  const json* value = Get(name);
  if (value == nullptr) return {};
  if (!value->is_array()) return {CheckedInt(name, *value, range)};
  std::vector<int> numbers;
  for (size_t i = 0; i < value->size() && status_.ok(); ++i) {
    numbers.push_back(CheckedInt(absl::StrCat(name, "[", i, "]"), (*value)[i], range));
  }
  return numbers;
}

FieldReader FieldReader::Object(const char* name) {
  static const json kEmpty = json::object();
  const json* value = Get(name);
  if (value == nullptr) {
    Refuse(name, "an object", "no such field");
  } else if (!value->is_object()) {
    RefuseValue(name, "an object", *value);
  } else {
    return FieldReader(*value, file_, absl::StrCat(path_, name, "."));
  }
  return FieldReader(kEmpty, file_);
}

void FieldReader::OnlyFields(std::initializer_list<std::string_view> known) {
  if (!object_.is_object()) return;
  for (const auto& [name, value] : object_.items()) {
    if (std::find(known.begin(), known.end(), name) != known.end()) continue;
    Refuse(ShownName(name),
           absl::StrCat("only the fields ",
                        absl::StrJoin(known, ", ",
                                      [](std::string* out, auto field) { out->append(field); })),
           "an unknown field");
  }
}

void FieldReader::Refuse(const std::string& name, const std::string& expected,
                         const std::string& found) {
  Fail(absl::InvalidArgumentError(Mismatch(file_, absl::StrCat(path_, name), expected, found)));
}

void FieldReader::RefuseValue(const std::string& name, const std::string& expected,
                              const json& found) {
  Refuse(name, expected, ShownValue(found));
}

void FieldReader::Fail(absl::Status status) {
  if (status_.ok()) status_ = std::move(status);
}

}  // namespace mea
