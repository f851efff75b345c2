#pragma once

#include <cstdint>
#include <string>

namespace mea {

// "<file>: <what>: expected <expected>, found <found>": the form of every refusal in this room.
std::string Mismatch(const std::string& file, const std::string& what, const std::string& expected,
                     const std::string& found);

// A name from a file as a message shows it: quoted, printable, shortened.
std::string ShownName(const std::string& name);
// Text for a message, cut so that the message stays one line.
std::string Shortened(std::string text);
// 1234567 -> "1,234,567".
std::string Grouped(int64_t number);

}  // namespace mea
