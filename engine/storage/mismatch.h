#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace mea {

// "<file>: <what>: expected <expected>, found <found>": the form of refusals of files.
std::string Mismatch(const std::string& file, const std::string& what, const std::string& expected,
                     const std::string& found);

// A text from a file or a client as a message shows it: quoted as JSON does, shortened to whole
// code points.
std::string ShownName(std::string_view name);
// Text for a message, cut so that the message stays one line.
std::string Shortened(std::string text);
// 1234567 -> "1,234,567".
std::string Grouped(int64_t number);

}  // namespace mea
