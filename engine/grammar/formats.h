#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace mea::grammar {

// The regular expression of a value of `format` in a JSON schema; absent where the format is one
// that we do not know, which the standard takes for an annotation. What matches is of the format;
// where the format is wide (email, uri, IPv6 with a dotted end), not everything that is matches.
std::optional<std::string> PatternOfFormat(std::string_view format);

}  // namespace mea::grammar
