#pragma once

#include <cstdint>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "engine/storage/json.h"
#include "engine/storage/mismatch.h"

namespace mea {

struct IntRange {
  int64_t min = 0;
  int64_t max = 0;
};
struct NumberRange {
  double min = 0;
  double max = 0;
};

// Reads the fields of one JSON object with types and ranges checked. status() keeps the first error
// and later reads return their fallbacks, so a caller checks once, at the end. null counts as
// absent, as Hugging Face writes it. The object must outlive the reader.
class FieldReader {
 public:
  // `path` precedes names in messages: "head_composition." or nothing.
  FieldReader(const nlohmann::json& object, const std::string& file, const std::string& path = "");

  bool Has(const char* name) const { return Get(name) != nullptr; }
  bool IsNull(const char* name) const;  // present, and null
  // Null when absent.
  const nlohmann::json* Get(const char* name) const;

  // Without a fallback the field is required.
  int Int(const char* name, IntRange range, std::optional<int> fallback = std::nullopt);
  double Number(const char* name, NumberRange range, std::optional<double> fallback = std::nullopt);
  bool Bool(const char* name, bool fallback);
  std::string String(const char* name, std::optional<std::string> fallback = std::nullopt);
  // One integer, or a list of them; empty when absent.
  std::vector<int> IntOrList(const char* name, IntRange range);
  // A list of numbers; empty when absent.
  std::vector<double> NumberList(const char* name, NumberRange range);
  // A reader for the object in this field, which must be present.
  FieldReader Object(const char* name);

  // Refuses fields other than these.
  void OnlyFields(std::initializer_list<std::string_view> known);

  void Refuse(const std::string& name, const std::string& expected, const std::string& found);
  void RefuseValue(const std::string& name, const std::string& expected,
                   const nlohmann::json& found);
  void Fail(absl::Status status);  // OK is no failure
  const absl::Status& status() const { return status_; }
  const std::string& file() const { return file_; }

 private:
  int CheckedInt(const std::string& name, const nlohmann::json& value, IntRange range);
  double CheckedNumber(const std::string& name, const nlohmann::json& value, NumberRange range);

  const nlohmann::json& object_;
  std::string file_;
  std::string path_;
  absl::Status status_;
};

}  // namespace mea
