#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace mea::grammar {

// A regular expression in the form that the library enforces exactly: anchors at the ends of the
// outermost alternatives are removed, since it matches whole texts, and code points beyond ASCII
// are escaped. INVALID_ARGUMENT names `field` if the expression is too long, too deeply nested,
// repeats too much or has an anchor elsewhere. Its written-out characters count against `budget`,
// which several expressions of one document share.
absl::StatusOr<std::string> PrepareRegex(std::string_view field, std::string_view regex,
                                         int64_t& budget);

// "." matches any character but a line end, as in Python and JavaScript; the library's matches all.
// In a JSON string no line end stands anyway.
std::string DotsWithinLines(std::string_view prepared_regex);

// The same bounds for a grammar in EBNF.
absl::Status CheckEbnf(std::string_view field, std::string_view text);

}  // namespace mea::grammar
