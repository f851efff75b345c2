#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "engine/text/jinja/marked_text.h"

// Properties of code points as Python's str has them, and searching in time linear in the text.
namespace mea::jinja {

bool IsPySpace(char32_t c);      // str.isspace
bool IsPyPrintable(char32_t c);  // str.isprintable
bool IsLineBreak(char32_t c);    // str.splitlines

// `text` (valid UTF-8) without its leading, trailing white space: the bytes [begin, end) that stay.
ByteRange StripSpace(std::string_view text, bool left, bool right);
// The same for the code points in `chars`.
ByteRange StripChars(std::string_view text, std::string_view chars, bool left, bool right);

// Where `needle` (not empty) is first found from `from` on, last found before `end`; npos if
// nowhere. Linear in the text whatever the needle.
size_t FindFirst(std::string_view text, std::string_view needle, size_t from);
size_t FindLast(std::string_view text, std::string_view needle, size_t end);

// The byte at which code point `index` begins; the size of the text for those beyond its end.
size_t ByteOffset(std::string_view text, int64_t index, bool ascii);

enum class Case { kUpper, kLower, kTitle, kSwap };
void AddInCase(const MarkedText& text, size_t begin, size_t end, Case to, TextBuilder* out);

}  // namespace mea::jinja
