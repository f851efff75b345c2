#include "engine/grammar/json_schema.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/grammar/limits.h"
#include "engine/grammar/schema_preparer.h"

namespace mea::grammar {

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
      return absl::InvalidArgumentError(
          absl::StrCat(std::string(field), " has brackets more than ", kMaxJsonDepth, " deep"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<nlohmann::ordered_json> ParseJson(std::string_view field, std::string_view text) {
  if (text.size() > kMaxSchemaBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(std::string(field), " of ", text.size(), " bytes exceeds ", kMaxSchemaBytes));
  }
  if (absl::Status s = CheckJsonDepth(field, text); !s.ok()) return s;
  nlohmann::ordered_json json =
      nlohmann::ordered_json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded())
    return absl::InvalidArgumentError(absl::StrCat(std::string(field), " is not valid JSON"));
  return json;
}

absl::Status PrepareSchema(nlohmann::ordered_json& schema, Patterns& patterns) {
  return SchemaPreparer(schema, patterns).Run(schema);
}

absl::StatusOr<PreparedSchema> PrepareSchema(std::string_view text) {
  absl::StatusOr<nlohmann::ordered_json> schema = ParseJson("schema", text);
  if (!schema.ok()) return schema.status();
  PreparedSchema prepared;
  if (absl::Status s = PrepareSchema(*schema, prepared.patterns); !s.ok()) return s;
  prepared.text = schema->dump();
  return prepared;
}

}  // namespace mea::grammar
