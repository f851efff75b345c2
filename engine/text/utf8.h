#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>

namespace mea {

// The beginning of a text: a code point, or a maximal broken sequence (Unicode 3.9, "substitution
// of maximal subparts"), the unit that Python and Rust replace by one U+FFFD.
struct Utf8Unit {
  int size = 0;  // bytes
  bool valid = false;
  bool cut_off = false;  // the text ends before the code point may be complete
  char32_t code_point = 0xfffd;
};
Utf8Unit FirstUtf8Unit(std::string_view text);  // of a text that is not empty

bool IsValidUtf8(std::string_view text);

// As Python's bytes.decode("utf-8", errors="replace").
std::string ReplaceInvalidUtf8(std::string_view bytes);

void AppendUtf8(char32_t code_point, std::string* text);

// Code points of `valid`, which must be valid UTF-8: the bytes of the one that begins with `lead`,
// the one at `offset`, and where the one that ends at `end` (> 0) begins.
inline int CodePointSize(char lead) {
  const unsigned byte = static_cast<unsigned char>(lead);
  return byte < 0x80 ? 1 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4;
}
inline char32_t CodePointAt(std::string_view valid, size_t offset) {
  const auto bits = [&](size_t i, unsigned mask) -> char32_t { return valid[offset + i] & mask; };
  switch (CodePointSize(valid[offset])) {
    case 1:
      return bits(0, 0x7f);
    case 2:
      return bits(0, 0x1f) << 6 | bits(1, 0x3f);
    case 3:
      return bits(0, 0x0f) << 12 | bits(1, 0x3f) << 6 | bits(2, 0x3f);
    default:
      return bits(0, 0x07) << 18 | bits(1, 0x3f) << 12 | bits(2, 0x3f) << 6 | bits(3, 0x3f);
  }
}
inline size_t CodePointBefore(std::string_view valid, size_t end) {
  do --end;
  while ((valid[end] & 0xc0) == 0x80);
  return end;
}

inline int64_t NumCodePoints(std::string_view valid) {
  return std::count_if(valid.begin(), valid.end(), [](char c) { return (c & 0xc0) != 0x80; });
}

inline constexpr std::string_view kReplacementCharacter = "\xef\xbf\xbd";  // U+FFFD

// Bytes in, valid UTF-8 out, like ReplaceInvalidUtf8 of all of them; at most three bytes wait for
// the rest of their code point.
class Utf8Assembler {
 public:
  void Push(std::string_view bytes, std::string* text);
  void Finish(std::string* text);

 private:
  std::string pending_;
};

}  // namespace mea
