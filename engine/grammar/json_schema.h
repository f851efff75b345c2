#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/grammar/limits.h"

namespace mea::grammar {

// A JSON schema that the library enforces exactly: whatever it would silently ignore has been
// rewritten or refused. Documents that match it match the client's schema.
struct Patterns {
  std::vector<std::string> regexes;  // of strings and keys, each once
  int64_t budget = kMaxRegexStates;  // characters that more of them may have
};
struct PreparedSchema {
  std::string text;
  Patterns patterns;
};

// INVALID_ARGUMENT names keyword, value and bound. README.md has the list of keywords.
absl::StatusOr<PreparedSchema> PrepareSchema(std::string_view text);
// The same for a schema inside of another document, in place; adds to `patterns`.
absl::Status PrepareSchema(nlohmann::ordered_json& schema, Patterns& patterns);

// Of bounded size, so that it can be parsed.
absl::StatusOr<nlohmann::ordered_json> ParseJson(std::string_view field, std::string_view text);

// Whether no document matches two of these schemas, judged by their types, their constants and the
// properties that they require. Their references point into `root`.
bool AreDisjoint(const nlohmann::ordered_json& schemas, const nlohmann::ordered_json& root);
// The target of a reference within the document; null if there is none.
const nlohmann::ordered_json* Resolve(const nlohmann::ordered_json& root, std::string_view ref);

}  // namespace mea::grammar
