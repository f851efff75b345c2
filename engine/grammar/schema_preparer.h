#pragma once

#include <array>
#include <initializer_list>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/grammar/json_schema.h"

namespace mea::grammar {

// The keywords that apply to values of one type.
struct KeywordFamily {
  const char* type;
  std::vector<const char*> keywords;
};
const std::array<KeywordFamily, 4>& KeywordFamilies();

// INVALID_ARGUMENT about the schema at a place in the document.
absl::Status RefuseAt(const std::string& path, const std::string& what);

// Walks the schemas of a document and puts each into its exact form, in place. For one document.
class SchemaPreparer {
 public:
  using Json = nlohmann::ordered_json;

  SchemaPreparer(const Json& root, Patterns& patterns) : root_(root), patterns_(patterns) {}

  absl::Status Run(Json& schema);

 private:
  using Names = std::initializer_list<const char*>;

  absl::Status Prepare(Json& schema, const std::string& path, int depth);
  // Notes the places of all schemas, once they no longer move.
  void Collect(const Json& schema);
  // Requires a name to be short; otherwise everything that copies it would copy too much.
  absl::Status CheckType(const Json& schema, const std::string& path);
  // Every member of an object of schemas.
  absl::Status PrepareEach(Json& schema, const char* name, const std::string& path, int depth);
  // Another keyword next to `name` that restricts documents; null if there is none.
  const char* Beside(const Json& schema, const char* name, Names harmless = {});
  absl::Status PrepareRef(Json& schema, const std::string& path);
  absl::Status PrepareConstants(Json& schema, const std::string& path);
  static bool HasType(const Json& value, const Json& types);
  absl::Status PrepareBranches(Json& schema, const char* name, const std::string& path, int depth);

  // The types, in schema_types.cc.
  absl::Status PrepareTyped(Json& schema, const std::string& path, int depth);
  absl::Status CheckCounts(const Json& schema, const std::string& path, Names names);
  absl::Status PrepareObject(Json& schema, const std::string& path, int depth);
  // Bounds properties times optional ones: the library's work grows with that product.
  absl::Status CountOptional(const Json& schema, const std::string& path);
  // A property that is required but not listed may be anything, if others are allowed at all.
  absl::Status ListRequired(Json& schema, const std::string& path);
  absl::Status PreparePatternKeys(Json& properties, const std::string& path);
  absl::StatusOr<std::string> AddPattern(const std::string& regex, const std::string& path);
  absl::Status PrepareArray(Json& schema, const std::string& path, int depth);
  absl::Status PrepareString(Json& schema, const std::string& path);

  const Json& root_;
  Patterns& patterns_;
  std::set<std::string> references_;
  std::set<const Json*> schemas_;  // every place that is a schema
  int64_t optional_budget_ = kMaxOptional;
  int num_schemas_ = 0;
  int num_constants_ = 0;
};

}  // namespace mea::grammar
