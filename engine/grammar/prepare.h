#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/grammar/grammar.h"

namespace mea::grammar {

// What the library gets instead of the client's specification.
struct PreparedGrammar {
  enum class Kind { kJsonSchema, kRegex, kEbnf, kStructuralTag };
  Kind kind = Kind::kJsonSchema;
  std::string text;
  std::vector<std::string> patterns;  // regular expressions inside of JSON strings
};

// Checks a client's specification against limits.h and what can be enforced exactly.
// INVALID_ARGUMENT names field, value and bound.
absl::StatusOr<PreparedGrammar> Prepare(const GrammarSpec& spec);

// A text as a string literal of EBNF.
std::string EbnfQuoted(std::string_view text);

}  // namespace mea::grammar
