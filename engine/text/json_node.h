#pragma once

#include <absl/status/status.h>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

namespace mea {

// The first error found in a file. Readers continue with defaults and check once, at the end.
class JsonErrors {
 public:
  explicit JsonErrors(std::string file) : file_(std::move(file)) {}

  // `what` is a sentence that begins with a path: `model.type "Unigram" is not supported`.
  void Add(const std::string& what);
  const absl::Status& status() const { return status_; }

 private:
  std::string file_;
  absl::Status status_;
};

// One value of a JSON document, with its path for messages. A missing value, or one of the wrong
// type, is reported to `errors` once and then reads as empty, so code that walks a document only
// says what it expects. The document must outlive it.
class JsonNode {
 public:
  using Json = nlohmann::json;

  JsonNode(const Json* root, JsonErrors* errors) : JsonNode(root, "", errors) {}

  // Missing or null.
  bool absent() const { return value_ == nullptr || value_->is_null(); }
  bool is_object() const { return value_ != nullptr && value_->is_object(); }
  bool is_array() const { return value_ != nullptr && value_->is_array(); }
  bool is_string() const { return value_ != nullptr && value_->is_string(); }

  // A member of this object: Get reports its absence, Find does not.
  JsonNode Get(const std::string& key) const;
  JsonNode Find(const std::string& key) const;

  std::string String() const;
  bool Bool() const;
  // Reports anything that is not an integer from `low` to `high`, and returns low.
  int64_t Int(int64_t low, int64_t high) const;
  std::vector<JsonNode> Array() const;
  std::vector<std::pair<std::string, JsonNode>> Members() const;

  // For optional values.
  bool Bool(bool otherwise) const { return absent() ? otherwise : Bool(); }

  // Reports `<path> <what>`, or `<path> <value> <what>`.
  void Fail(const std::string& what) const;
  void FailValue(const std::string& what) const;

  const std::string& path() const { return path_; }
  const Json* value() const { return value_; }
  JsonErrors* errors() const { return errors_; }

 private:
  JsonNode(const Json* value, std::string path, JsonErrors* errors)
      : value_(value), path_(std::move(path)), errors_(errors) {}

  bool Expect(bool holds, const char* type) const;
  std::string PathOf(const std::string& key) const;

  const Json* value_;  // null: missing, and reported if it is required
  std::string path_;
  JsonErrors* errors_;
};

}  // namespace mea
