#include "engine/text/jinja/lexer.h"

#include <absl/strings/ascii.h>
#include <absl/strings/str_cat.h>
#include <unicode/uchar.h>

#include <algorithm>

#include "engine/text/jinja/unicode.h"
#include "engine/text/utf8.h"
#include "kernels/status_macros.h"

namespace mea::jinja {
namespace {

// Newlines of all kinds become "\n"; a final one is removed.
std::string WithPlainNewlines(std::string_view source) {
  std::string text;
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      text += source[i];
    } else if (i + 1 == source.size() || source[i + 1] != '\n') {
      text += '\n';
    }
  }
  if (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

bool IsNameStart(char32_t c) {
  return c < 0x80 ? absl::ascii_isalpha(static_cast<char>(c)) || c == '_'
                  : u_isIDStart(static_cast<UChar32>(c));
}

bool IsNamePart(char32_t c) {
  return IsNameStart(c) || (c < 0x80 ? absl::ascii_isdigit(static_cast<char>(c))
                                     : u_isIDPart(static_cast<UChar32>(c)) != 0);
}

int DigitOf(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return 99;
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : text_(source) {}

  absl::StatusOr<std::vector<Token>> Run() {
    while (status_.ok() && at_ < text_.size()) Text();
    MEA_RETURN_IF_ERROR(status_);
    Emit(TokenKind::kEnd, "");
    return std::move(tokens_);
  }

 private:
  void Emit(TokenKind kind, std::string text) { tokens_.push_back({kind, line_, std::move(text)}); }
  void Fail(std::string_view what) {
    if (status_.ok()) status_ = ErrorAt(line_, what);
  }
  bool At(std::string_view what) const { return text_.substr(at_).starts_with(what); }
  char Ahead(size_t i) const { return at_ + i < text_.size() ? text_[at_ + i] : '\0'; }

  // Moves on, counting lines.
  void Advance(size_t end) {
    line_ += static_cast<int>(std::count(text_.begin() + at_, text_.begin() + end, '\n'));
    if (end > at_) line_starts_ = text_[end - 1] == '\n';
    at_ = end;
  }
  size_t SpaceFrom(size_t at) const {
    while (at < text_.size() && IsPySpace(CodePointAt(text_, at))) at += CodePointSize(text_[at]);
    return at;
  }

  // The length of a tag's end at `at` ("-%}" with the space after it, "%}" with one newline); 0:
  // none.
  size_t EndOfTag(size_t at, std::string_view close, bool trims, bool plus) const {
    const std::string_view rest = text_.substr(at);
    if (rest.starts_with('-') && rest.substr(1).starts_with(close)) {
      return SpaceFrom(at + 1 + close.size());
    }
    if (plus && rest.starts_with('+') && rest.substr(1).starts_with(close)) {
      return at + 1 + close.size();
    }
    if (!rest.starts_with(close)) return 0;
    at += close.size();
    return trims && at < text_.size() && text_[at] == '\n' ? at + 1 : at;
  }

  // The text up to a tag at `tag`, without the space that the tag takes.
  void EmitText(size_t tag, char sign, bool variable) {
    std::string_view text = text_.substr(at_, tag - at_);
    if (sign == '-') {
      text = text.substr(0, StripSpace(text, false, true).second);
    } else if (sign != '+' && !variable) {
      const size_t newline = text.rfind('\n');
      const size_t line = newline == text.npos ? 0 : newline + 1;
      if ((line > 0 || line_starts_) &&
          StripSpace(text.substr(line), true, false).first == text.size() - line) {
        text = text.substr(0, line);
      }
    }
    if (!text.empty()) Emit(TokenKind::kText, std::string(text));
    Advance(tag);
  }

  void Text() {
    size_t tag = at_;
    for (;; ++tag) {
      tag = text_.find('{', tag);
      if (tag == text_.npos || tag + 1 >= text_.size()) {
        Emit(TokenKind::kText, std::string(text_.substr(at_)));
        return Advance(text_.size());
      }
      if (const char c = text_[tag + 1]; c == '%' || c == '{' || c == '#') break;
    }
    const char kind = text_[tag + 1];
    const char sign = tag + 2 < text_.size() ? text_[tag + 2] : '\0';
    const bool has_sign = sign == '-' || sign == '+';
    EmitText(tag, has_sign ? sign : '\0', kind == '{');
    const size_t inside = tag + 2 + has_sign;
    if (kind == '#') return Comment(inside);
    if (kind == '%') {
      if (const size_t raw = RawBegin(inside); raw != 0) return Raw(raw);
    }
    Emit(kind == '%' ? TokenKind::kBlockBegin : TokenKind::kVariableBegin, "");
    Advance(inside);
    Inside(kind == '%');
  }

  void Comment(size_t inside) {
    size_t close = text_.find("#}", inside);
    if (close == text_.npos) return Fail("a comment has no end");
    if (close > inside && (text_[close - 1] == '-' || text_[close - 1] == '+')) --close;
    Advance(EndOfTag(close, "#}", true, true));
  }

  size_t RawBegin(size_t at) const {
    at = SpaceFrom(at);
    if (!text_.substr(at).starts_with("raw")) return 0;
    return EndOfTag(SpaceFrom(at + 3), "%}", false, false);
  }

  void Raw(size_t inside) {
    Advance(inside);
    for (size_t tag = at_; (tag = text_.find("{%", tag)) != text_.npos; ++tag) {
      const char sign = tag + 2 < text_.size() ? text_[tag + 2] : '\0';
      const bool has_sign = sign == '-' || sign == '+';
      const size_t name = SpaceFrom(tag + 2 + has_sign);
      if (!text_.substr(name).starts_with("endraw")) continue;
      const size_t end = EndOfTag(SpaceFrom(name + 6), "%}", true, true);
      if (end == 0) continue;
      EmitText(tag, has_sign ? sign : '\0', false);
      return Advance(end);
    }
    Fail("a raw block has no end");
  }

  // The tokens of a tag, to its end.
  void Inside(bool block) {
    std::string open;  // the brackets that are open
    while (status_.ok()) {
      if (open.empty()) {
        if (const size_t end = EndOfTag(at_, block ? "%}" : "}}", block, block); end != 0) {
          Emit(block ? TokenKind::kBlockEnd : TokenKind::kVariableEnd, "");
          return Advance(end);
        }
      }
      const size_t space = SpaceFrom(at_);
      if (space != at_) {
        Advance(space);
        continue;
      }
      if (at_ == text_.size()) return Fail("a tag has no end");
      const char c = text_[at_];
      if (c >= '0' && c <= '9') {
        Number();
      } else if (IsNameStart(CodePointAt(text_, at_))) {
        size_t end = at_;
        while (end < text_.size() && IsNamePart(CodePointAt(text_, end))) {
          end += CodePointSize(text_[end]);
        }
        Emit(TokenKind::kName, std::string(text_.substr(at_, end - at_)));
        Advance(end);
      } else if (c == '\'' || c == '"') {
        String(c);
      } else {
        Operator(&open);
      }
    }
  }

  size_t Digits(size_t at, int base) const {  // with single underscores between them
    while (at < text_.size() &&
           (DigitOf(text_[at]) < base ||
            (text_[at] == '_' && at + 1 < text_.size() && DigitOf(text_[at + 1]) < base))) {
      ++at;
    }
    return at;
  }

  void Number() {
    const int base = Ahead(0) != '0'                      ? 10
                     : Ahead(1) == 'x' || Ahead(1) == 'X' ? 16
                     : Ahead(1) == 'o' || Ahead(1) == 'O' ? 8
                     : Ahead(1) == 'b' || Ahead(1) == 'B' ? 2
                                                          : 10;
    size_t end;
    TokenKind kind = TokenKind::kInteger;
    if (base != 10) {
      end = Digits(at_ + 2, base);
    } else {
      end = Digits(at_, 10);
      const auto is_digit = [&](size_t i) { return i < text_.size() && DigitOf(text_[i]) < 10; };
      if (at_ == 0 || text_[at_ - 1] != '.') {
        if (end < text_.size() && text_[end] == '.' && is_digit(end + 1)) {
          end = Digits(end + 1, 10);
          kind = TokenKind::kFloat;
        }
        if (end < text_.size() && (text_[end] == 'e' || text_[end] == 'E')) {
          const size_t sign =
              end + 1 < text_.size() && (text_[end + 1] == '+' || text_[end + 1] == '-');
          if (is_digit(end + 1 + sign)) {
            end = Digits(end + 1 + sign, 10);
            kind = TokenKind::kFloat;
          }
        }
      }
    }
    std::string digits(text_.substr(at_, end - at_));
    digits.erase(std::remove(digits.begin(), digits.end(), '_'), digits.end());
    Emit(kind, std::move(digits));
    Advance(end);
  }

  // One escape after a backslash at `at`; where it ends.
  size_t Escape(size_t at, std::string* out) {
    const char c = text_[at];
    static constexpr std::string_view kFrom = "\\'\"abfnrtv", kTo = "\\'\"\a\b\f\n\r\t\v";
    if (const size_t i = kFrom.find(c); i != kFrom.npos) {
      out->push_back(kTo[i]);
      return at + 1;
    }
    if (c == '\n') return at + 1;
    const bool octal = c >= '0' && c <= '7';
    const int base = octal ? 8 : 16;
    const size_t wanted = octal ? 3 : c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    if (wanted == 0) {
      out->push_back('\\');
      return at;
    }
    size_t end = octal ? at : at + 1;
    char32_t code_point = 0;
    size_t count = 0;
    for (; count < wanted && end < text_.size() && DigitOf(text_[end]) < base; ++count, ++end) {
      code_point = code_point * base + DigitOf(text_[end]);
    }
    if (!octal && count < wanted) {
      Fail(absl::StrCat("the escape \\", std::string(1, c), " of a string is cut short"));
      return end;
    }
    if (code_point > 0x10ffff || (code_point >= 0xd800 && code_point < 0xe000)) {
      Fail("an escape of a string names no character");
      return end;
    }
    AppendUtf8(code_point, out);
    return end;
  }

  void String(char quote) {
    std::string value;
    size_t at = at_ + 1;
    while (at < text_.size() && text_[at] != quote) {
      if (text_[at] != '\\') {
        value += text_[at++];
      } else if (at + 1 < text_.size()) {
        at = Escape(at + 1, &value);
        if (!status_.ok()) return;
      } else {
        break;
      }
    }
    if (at >= text_.size() || text_[at] != quote) return Fail("a string has no end");
    Emit(TokenKind::kString, std::move(value));
    Advance(at + 1);
  }

  void Operator(std::string* open) {
    static constexpr std::string_view kDouble[] = {"**", "//", "==", "!=", ">=", "<="};
    static constexpr std::string_view kSingle = "+-/*%~[](){}><=.:|,;";
    size_t size = kSingle.find(text_[at_]) != kSingle.npos ? 1 : 0;
    for (const std::string_view two : kDouble) {
      if (At(two)) size = 2;
    }
    if (size == 0) {
      const int bytes = CodePointSize(text_[at_]);
      return Fail(absl::StrCat("unexpected character \"",
                               std::string(text_.substr(at_, static_cast<size_t>(bytes))), "\""));
    }
    const char c = text_[at_];
    if (size == 1 && (c == '(' || c == '[' || c == '{')) {
      open->push_back(c == '(' ? ')' : c == '[' ? ']' : '}');
    } else if (size == 1 && (c == ')' || c == ']' || c == '}')) {
      if (open->empty() || open->back() != c) {
        return Fail(absl::StrCat("unexpected \"", std::string(1, c), "\""));
      }
      open->pop_back();
    }
    Emit(TokenKind::kOperator, std::string(text_.substr(at_, size)));
    Advance(at_ + size);
  }

  const std::string_view text_;
  size_t at_ = 0;
  int line_ = 1;
  bool line_starts_ = true;  // what was read last ended a line
  std::vector<Token> tokens_;
  absl::Status status_;
};

}  // namespace

absl::StatusOr<std::vector<Token>> Tokenize(std::string_view source) {
  const std::string text = WithPlainNewlines(source);
  return Lexer(text).Run();
}

absl::Status ErrorAt(int line, std::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("line ", line, ": ", std::string(what)));
}

}  // namespace mea::jinja
