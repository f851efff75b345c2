#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/openai/json.h"

namespace mea::openai {

// A body, parsed. INVALID_ARGUMENT if it is not a JSON object, is nested too deeply, or is not
// UTF-8.
absl::StatusOr<Json> ParseBody(std::string_view body);

// Reads fields of a JSON object one after the other; a field that is absent or null is unset, and
// other fields are ignored, as OpenAI does. Shares its first error with the readers of nested
// objects. Errors name the field as the client wrote it: "stream_options.x".
class JsonReader {
 public:
  JsonReader(const Json& object, absl::Status* complaint, std::string path = "")
      : object_(object), complaint_(*complaint), path_(std::move(path)) {}

  const Json* Find(std::string_view name) const;  // null: unset
  bool Has(std::string_view name) const { return Find(name) != nullptr; }

  std::optional<bool> Bool(std::string_view name);
  std::optional<int32_t> Int(std::string_view name);
  std::optional<uint64_t> Seed(std::string_view name);  // negative ones wrap
  std::optional<double> Number(std::string_view name);
  std::optional<std::string> String(std::string_view name);
  std::optional<std::string> OneOf(std::string_view name,
                                   std::initializer_list<std::string_view> values);
  std::vector<int32_t> Ints(std::string_view name);
  std::vector<std::string> Strings(std::string_view name);
  const Json* Object(std::string_view name);
  const Json* Array(std::string_view name);
  // The reader of an object that Object() returned.
  JsonReader Inside(const Json& object, std::string_view name) const {
    return {object, &complaint_, PathOf(name)};
  }

  // Refuses a field that is present but not served; empty lists, false and 0 count as absent.
  void NotServed(std::string_view name, std::string_view instead);
  // `problem` may quote the client, `name` must not: it is logged.
  void Invalid(std::string_view name, std::string_view problem);
  void Refuse(absl::Status status) {
    if (complaint_.ok()) complaint_ = std::move(status);
  }
  void WrongType(std::string_view name, const Json& value, std::string_view expected);

  std::string PathOf(std::string_view name) const;
  const absl::Status& complaint() const { return complaint_; }

 private:
  const Json& object_;
  absl::Status& complaint_;
  const std::string path_;
};

}  // namespace mea::openai
