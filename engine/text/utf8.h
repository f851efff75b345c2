#pragma once

#include <string>
#include <string_view>

namespace mea {

// What a text begins with: a code point, or a maximal broken sequence (Unicode 3.9, "substitution
// of maximal subparts"), the unit that Python and Rust replace by one U+FFFD.
struct Utf8Unit {
  int size = 0;  // bytes
  bool valid = false;
  bool cut_off = false;  // the text ends where the code point might go on
  char32_t code_point = 0xfffd;
};
Utf8Unit FirstUtf8Unit(std::string_view text);  // of a text that is not empty

bool IsValidUtf8(std::string_view text);

// As Python's bytes.decode("utf-8", errors="replace").
std::string ReplaceInvalidUtf8(std::string_view bytes);

void AppendUtf8(char32_t code_point, std::string* text);

// Code points of `valid`, which must be valid UTF-8: bytes of the first one, and its value.
int CodePointSize(char lead);
char32_t CodePointAt(std::string_view valid, size_t offset);
// Where the code point that ends at `end` begins; end > 0.
size_t CodePointBefore(std::string_view valid, size_t end);

inline constexpr std::string_view kReplacementCharacter = "\xef\xbf\xbd";  // U+FFFD

// Bytes in, valid UTF-8 out, as ReplaceInvalidUtf8 of all of them; at most three bytes wait inside
// for the rest of their code point.
class Utf8Assembler {
 public:
  void Push(std::string_view bytes, std::string* text);
  void Finish(std::string* text);

 private:
  std::string pending_;
};

}  // namespace mea
