#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace mea::grammar {

// The regular expression of a value of `format` in a JSON schema; absent if we do not know the
// format, which the standard then treats as an annotation. Everything that matches has the format;
// for wide formats (email, uri, IPv6 with a dotted end) not everything of the format matches.
std::optional<std::string> PatternOfFormat(std::string_view format);

}  // namespace mea::grammar
