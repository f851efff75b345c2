#pragma once

#include <string_view>

namespace mea {

// The number of letters to put in, take out or change. Of what a person typed: short texts.
size_t EditDistance(std::string_view a, std::string_view b);

// Whether `list`, separated by spaces, has this word.
bool HasWord(std::string_view list, std::string_view word);

}  // namespace mea
