#include "engine/grammar/json_schema.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/grammar/limits.h"
#include "engine/grammar/schema_preparer.h"
#include "engine/text/json_bounds.h"

namespace mea::grammar {

absl::StatusOr<nlohmann::ordered_json> ParseJson(std::string_view field, std::string_view text) {
  if (text.size() > kMaxSchemaBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(std::string(field), " of ", text.size(), " bytes exceeds ", kMaxSchemaBytes));
  }
  if (absl::Status s = CheckJsonBounds(text, {.max_depth = kMaxJsonDepth}); !s.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(std::string(field), " ", s.message()));
  }
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
