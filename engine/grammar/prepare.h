#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/grammar/grammar.h"

namespace mea::grammar {

// What the library is given in place of a client's words.
struct PreparedGrammar {
  enum class Kind { kJsonSchema, kRegex, kEbnf, kStructuralTag };
  Kind kind = Kind::kJsonSchema;
  std::string text;
  std::vector<std::string> patterns;  // regular expressions inside of JSON strings
};

// Checks a client's words against limits.h and what can be held exactly. INVALID_ARGUMENT names
// field, value and bound.
absl::StatusOr<PreparedGrammar> Prepare(const GrammarSpec& spec);

// A text as a string literal of EBNF.
std::string EbnfQuoted(std::string_view text);

}  // namespace mea::grammar
