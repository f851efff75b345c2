#include "engine/text/regex_syntax.h"

#include <absl/strings/ascii.h>

#include <algorithm>
#include <array>

namespace mea {
namespace {

// White_Space. PCRE2 adds U+180E to its \s.
constexpr std::string_view kSpace =
    R"(\x09-\x0d\x20\x85\xa0\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";
constexpr std::string_view kNotSpace =
    R"(\x00-\x08\x0e-\x1f\x21-\x84\x86-\x9f\xa1-\x{167f}\x{1681}-\x{1fff}\x{200b}-\x{2027})"
    R"(\x{202a}-\x{202e}\x{2030}-\x{205e}\x{2060}-\x{2fff}\x{3001}-\x{10ffff})";
// PCRE2 leaves marks and connectors out of its \w. Oniguruma counts six digits and fractions of
// Latin-1 (superscripts, 1/4 ...) among its letters, but no others.
constexpr std::string_view kWord = R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\xb2\xb3\xb9\xbc-\xbe)";

constexpr std::array<std::string_view, 37> kCategories = {
    "C",  "Cc", "Cf", "Cn", "Co", "Cs", "L",  "Ll", "Lm", "Lo", "Lt", "Lu", "M",
    "Mc", "Me", "Mn", "N",  "Nd", "Nl", "No", "P",  "Pc", "Pd", "Pe", "Pf", "Pi",
    "Po", "Ps", "S",  "Sc", "Sk", "Sm", "So", "Z",  "Zl", "Zp", "Zs"};

class Translator {
 public:
  explicit Translator(std::string_view pattern) : in_(pattern) {}

  absl::StatusOr<std::string> Run() {
    if (in_.substr(0, 4) == "(?i)") Copy(4);  // elsewhere its scope differs
    while (at_ < in_.size() && refused_.empty()) {
      switch (in_[at_]) {
        case '\\':
          Escape();
          break;
        case '[':
          Class();
          break;
        case '(':
          Group();
          break;
        case '{':
          Interval();
          break;
        default:
          Copy(1);
      }
    }
    if (refused_.empty()) return std::move(out_);
    return absl::InvalidArgumentError(refused_);
  }

 private:
  void Copy(size_t n) {
    out_.append(in_.substr(at_, n));
    at_ += n;
  }
  void Refuse(size_t n) { refused_ = in_.substr(at_, n); }
  bool Next(std::string_view text) const { return in_.substr(at_, text.size()) == text; }

  void Group() {
    if (!Next("(?")) return Copy(1);
    for (const std::string_view kind : {"(?:", "(?=", "(?!", "(?>", "(?<=", "(?<!", "(?i:"}) {
      if (Next(kind)) return Copy(kind.size());
    }
    Refuse(3);
  }

  // {n}, {n,} or {n,m}; anything else in braces is literal in both, except {,m}. Ruby reads {n,m}+
  // and {n}? as two quantifiers, PCRE2 as one.
  void Interval() {
    const size_t end = in_.find_first_not_of("0123456789,", at_ + 1);
    if (end == std::string_view::npos || in_[end] != '}' || end == at_ + 1) return Copy(1);
    const std::string_view bounds = in_.substr(at_ + 1, end - at_ - 1);
    const char after = end + 1 < in_.size() ? in_[end + 1] : '\0';
    const bool exact = bounds.find(',') == std::string_view::npos;
    if (bounds[0] == ',' || after == '+' || (after == '?' && exact)) return Refuse(end + 2 - at_);
    Copy(end + 1 - at_);
  }

  void Class() {
    in_class_ = true;
    Copy(1);
    if (Next("^")) Copy(1);
    if (Next("]")) return Refuse(1);
    while (at_ < in_.size() && refused_.empty() && !Next("]")) {
      if (Next("[")) return Refuse(2);   // nested and POSIX classes
      if (Next("&&")) return Refuse(2);  // intersection
      if (Next("\\")) {
        Escape();
      } else {
        Copy(1);
      }
    }
    if (refused_.empty() && at_ < in_.size()) Copy(1);
    in_class_ = false;
  }

  // Writes the members of a class, as a class or as a part of one.
  void Members(std::string_view members) {
    out_.append(in_class_ ? "" : "[").append(members).append(in_class_ ? "" : "]");
    at_ += 2;
  }

  void Escape() {
    if (at_ + 1 == in_.size()) return Refuse(1);
    const char c = in_[at_ + 1];
    switch (c) {
      case 's':
        return Members(kSpace);
      case 'S':
        return Members(kNotSpace);
      case 'w':
        return Members(kWord);
      case 'W':
        if (in_class_) return Refuse(2);
        out_.append("[^").append(kWord).append("]");
        at_ += 2;
        return;
      case 'd':
        return Members(R"(\p{Nd})");
      case 'D':
        return Members(R"(\P{Nd})");
      case 'v':
        return Members(R"(\x0b)");
      case 'r':
      case 'n':
      case 't':
      case 'f':
      case 'a':
      case 'e':
        return Copy(2);
      case 'p':
      case 'P':
        return Property();
      case 'x':
      case 'u':
        return CodePoint();
      default:
        if (absl::ascii_isalnum(c)) return Refuse(2);
        if (absl::ascii_isascii(c)) return Copy(2);
        ++at_;  // a backslash before a letter of another script says nothing
    }
  }

  void Property() {
    const size_t end = in_.find('}', at_);
    if (at_ + 3 >= in_.size() || in_[at_ + 2] != '{' || end == std::string_view::npos) {
      return Refuse(3);
    }
    std::string_view name = in_.substr(at_ + 3, end - at_ - 3);
    const bool negated = !name.empty() && name[0] == '^';
    if (negated) name.remove_prefix(1);
    const bool letters = !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
      return absl::ascii_isalpha(c) || c == '_';
    });
    if (!letters) return Refuse(end + 1 - at_);
    const bool category =
        std::find(kCategories.begin(), kCategories.end(), name) != kCategories.end();
    // \p{Han} means the script in Oniguruma and the script extensions in PCRE2.
    out_.append(in_.substr(at_, 2)).append(negated ? "{^" : "{").append(category ? "" : "sc:");
    out_.append(name).append("}");
    at_ = end + 1;
  }

  // \xHH (a byte to Oniguruma, so below 0x80), \x{H...} or \uHHHH.
  void CodePoint() {
    size_t begin = at_ + 2, end = begin + (in_[at_ + 1] == 'u' ? 4 : 2);
    const bool braces = in_[at_ + 1] == 'x' && begin < in_.size() && in_[begin] == '{';
    if (braces) end = std::min(in_.find('}', ++begin), in_.size());
    const std::string_view digits = in_.substr(begin, end - begin);
    const bool hex = !digits.empty() && digits.size() <= 6 &&
                     std::all_of(digits.begin(), digits.end(), absl::ascii_isxdigit);
    const bool whole = end + (braces ? 1 : 0) <= in_.size();
    const bool high_byte = in_[at_ + 1] == 'x' && !braces && hex && digits[0] > '7';
    if (!hex || !whole || high_byte) return Refuse(end - at_);
    out_.append("\\x{").append(digits).append("}");
    at_ = end + (braces ? 1 : 0);
  }

  const std::string_view in_;
  size_t at_ = 0;
  bool in_class_ = false;
  std::string out_;
  std::string refused_;
};

}  // namespace

absl::StatusOr<std::string> OnigurumaToPcre2(std::string_view pattern) {
  return Translator(pattern).Run();
}

}  // namespace mea
