#pragma once

#include <cstdint>
#include <string>

namespace mea {

// "<file>: <what>: expected <expected>, found <found>": the one shape of every refusal here.
std::string Mismatch(const std::string& file, const std::string& what, const std::string& expected,
                     const std::string& found);

// A name out of a file as a message shows it: quoted, printable, shortened.
std::string ShownName(const std::string& name);
// Text of a message cut to a length that keeps it a line.
std::string Shortened(std::string text);
// 1234567 -> "1,234,567".
std::string Grouped(int64_t number);

}  // namespace mea
