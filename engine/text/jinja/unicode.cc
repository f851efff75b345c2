#include "engine/text/jinja/unicode.h"

#include <unicode/locid.h>
#include <unicode/stringoptions.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "engine/text/utf8.h"

namespace mea::jinja {
namespace {

template <typename Predicate>
ByteRange StripWhere(std::string_view text, bool left, bool right, Predicate strip) {
  size_t begin = 0, end = text.size();
  while (left && begin < end && strip(CodePointAt(text, begin))) {
    begin += CodePointSize(text[begin]);
  }
  while (right && begin < end) {
    const size_t last = CodePointBefore(text, end);
    if (!strip(CodePointAt(text, last))) break;
    end = last;
  }
  return {begin, end};
}

bool IsAscii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c >= 0; });
}

std::string Cased(std::string_view text, Case to) {
  icu::UnicodeString string =
      icu::UnicodeString::fromUTF8(icu::StringPiece(text.data(), static_cast<int>(text.size())));
  switch (to) {
    case Case::kUpper:
      string.toUpper(icu::Locale::getRoot());
      break;
    case Case::kLower:
      string.toLower(icu::Locale::getRoot());
      break;
    case Case::kTitle:  // of one code point; a search for words would need more of ICU's data
      string.toTitle(nullptr, icu::Locale::getRoot(), U_TITLECASE_WHOLE_STRING);
      break;
    case Case::kSwap:
      if (u_isUUppercase(string.char32At(0))) {
        string.toLower(icu::Locale::getRoot());
      } else {
        string.toUpper(icu::Locale::getRoot());
      }
      break;
  }
  std::string result;
  string.toUTF8String(result);
  return result;
}

char AsciiCased(char c, Case to) {
  const bool upper = c >= 'A' && c <= 'Z', lower = c >= 'a' && c <= 'z';
  const bool want_upper = to == Case::kUpper || to == Case::kTitle || (to == Case::kSwap && lower);
  if (want_upper) return lower ? static_cast<char>(c - 'a' + 'A') : c;
  return upper ? static_cast<char>(c - 'A' + 'a') : c;
}

}  // namespace

bool IsPySpace(char32_t c) {
  if (c < 0x80) return c == ' ' || (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x1f);
  return c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 ||
         c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

bool IsPyPrintable(char32_t c) {
  constexpr uint32_t kHidden = U_GC_CC_MASK | U_GC_CF_MASK | U_GC_CS_MASK | U_GC_CO_MASK |
                               U_GC_CN_MASK | U_GC_ZL_MASK | U_GC_ZP_MASK | U_GC_ZS_MASK;
  return c == ' ' || (U_GET_GC_MASK(static_cast<UChar32>(c)) & kHidden) == 0;
}

bool IsLineBreak(char32_t c) {
  return (c >= 10 && c <= 13) || (c >= 0x1c && c <= 0x1e) || c == 0x85 || c == 0x2028 ||
         c == 0x2029;
}

ByteRange StripSpace(std::string_view text, bool left, bool right) {
  return StripWhere(text, left, right, IsPySpace);
}

ByteRange StripChars(std::string_view text, std::string_view chars, bool left, bool right) {
  std::vector<char32_t> set;
  for (size_t at = 0; at < chars.size(); at += CodePointSize(chars[at])) {
    set.push_back(CodePointAt(chars, at));
  }
  std::sort(set.begin(), set.end());
  return StripWhere(text, left, right,
                    [&](char32_t c) { return std::binary_search(set.begin(), set.end(), c); });
}

size_t FindFirst(std::string_view text, std::string_view needle, size_t from) {
  if (from > text.size()) return text.npos;
  const void* found = memmem(text.data() + from, text.size() - from, needle.data(), needle.size());
  return found == nullptr ? text.npos : static_cast<const char*>(found) - text.data();
}

size_t FindLast(std::string_view text, std::string_view needle, size_t end) {
  // Knuth, Morris and Pratt, from the end to the start.
  const size_t n = needle.size();
  const auto reversed = [&](size_t i) { return needle[n - 1 - i]; };
  std::vector<size_t> border(n, 0);
  for (size_t i = 1, k = 0; i < n; ++i) {
    while (k > 0 && reversed(i) != reversed(k)) k = border[k - 1];
    if (reversed(i) == reversed(k)) ++k;
    border[i] = k;
  }
  for (size_t at = end, k = 0; at > 0; --at) {
    while (k > 0 && text[at - 1] != reversed(k)) k = border[k - 1];
    if (text[at - 1] == reversed(k)) ++k;
    if (k == n) return at - 1;
  }
  return text.npos;
}

size_t ByteOffset(std::string_view text, int64_t index, bool ascii) {
  if (ascii) return std::min<size_t>(index, text.size());
  size_t at = 0;
  for (; index > 0 && at < text.size(); --index) at += CodePointSize(text[at]);
  return at;
}

void AddInCase(const MarkedText& text, size_t begin, size_t end, Case to, TextBuilder* out) {
  const std::string_view bytes = std::string_view(text.text).substr(begin, end - begin);
  if (IsAscii(bytes)) {
    MarkedText cased;
    TextBuilder copy;
    copy.Add(text, begin, end);
    cased = copy.Take();
    for (char& c : cased.text) c = AsciiCased(c, to);
    return out->Add(cased);
  }
  // The lower case of a sigma depends on its neighbours: whole runs of one origin are mapped at
  // once.
  if (to == Case::kUpper || to == Case::kLower) {
    size_t at = begin;
    while (at < end) {
      const size_t stop = std::min(end, text.EndOfRun(at));
      out->Add(Cased(std::string_view(text.text).substr(at, stop - at), to),
               text.HasInput(at, at + 1));
      at = stop;
    }
    return;
  }
  for (size_t at = begin; at < end;) {
    const size_t next = at + CodePointSize(text.text[at]);
    out->Add(Cased(std::string_view(text.text).substr(at, next - at), to),
             text.HasInput(at, at + 1));
    at = next;
  }
}

}  // namespace mea::jinja
