#include "engine/grammar/json_schema.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/grammar/limits.h"
#include "engine/grammar/schema_preparer.h"
#include "engine/text/json_bounds.h"
#include "kernels/status_macros.h"

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
  MEA_ASSIGN_OR_RETURN(nlohmann::ordered_json schema, ParseJson("schema", text));
  PreparedSchema prepared;
  MEA_RETURN_IF_ERROR(PrepareSchema(schema, prepared.patterns));
  prepared.text = schema.dump();
  return prepared;
}

}  // namespace mea::grammar
