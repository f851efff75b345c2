#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace mea::grammar {

// A regular expression in the form that the library holds exactly: anchors at the ends of the
// outermost alternatives are gone, since it matches whole texts, and other code points than ASCII
// are escaped. INVALID_ARGUMENT names `field` where the expression is too long, nests too deep,
// repeats too much or has an anchor elsewhere. Takes its characters, written out, from `budget`,
// which several expressions of one document share.
absl::StatusOr<std::string> PrepareRegex(std::string_view field, std::string_view regex,
                                         int64_t& budget);

// The same bounds for a grammar in EBNF.
absl::Status CheckEbnf(std::string_view field, std::string_view text);

}  // namespace mea::grammar
