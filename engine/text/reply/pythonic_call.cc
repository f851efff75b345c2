#include "engine/text/reply/pythonic_call.h"

#include <nlohmann/json.hpp>

#include "engine/text/utf8.h"

namespace mea::reply {
namespace {

constexpr int kMaxLiteralDepth = 64;

bool IsPythonNameByte(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         static_cast<unsigned char>(c) >= 0x80;
}

// Reads Python literals and writes them as JSON. Each method returns whether it found its literal.
class PythonLiterals {
 public:
  explicit PythonLiterals(std::string_view text) : text_(text) {}

  // key=value, ... up to the end of the text.
  bool KeywordArguments(std::string* json) {
    *json += '{';
    SkipBlanks();
    for (bool first = true; !AtEnd(); first = false) {
      std::string key;
      while (!AtEnd() && IsPythonNameByte(text_[at_])) key.push_back(text_[at_++]);
      SkipBlanks();
      if (key.empty() || !Eat('=')) return false;
      if (!first) *json += ", ";
      *json += '"' + key + "\": ";
      if (!Value(json, 0)) return false;
      SkipBlanks();
      if (!AtEnd() && !Eat(',')) return false;
      SkipBlanks();
    }
    *json += '}';
    return true;
  }

 private:
  bool AtEnd() const { return at_ == text_.size(); }
  void SkipBlanks() {
    while (!AtEnd() && IsBlank(text_[at_])) ++at_;
  }
  bool Eat(char c) {
    if (AtEnd() || text_[at_] != c) return false;
    ++at_;
    return true;
  }

  bool Value(std::string* json, int depth) {
    SkipBlanks();
    if (AtEnd() || depth > kMaxLiteralDepth) return false;
    switch (text_[at_]) {
      case '\'':
      case '"':
        return String(json);
      case '[':
        ++at_;
        return List(']', json, depth);
      case '(':
        ++at_;
        return List(')', json, depth);
      case '{':
        ++at_;
        return Dictionary(json, depth);
      default:
        return Word(json);
    }
  }

  bool List(char close, std::string* json, int depth) {
    *json += '[';
    SkipBlanks();
    for (bool first = true; !Eat(close); first = false) {
      if (!first) *json += ", ";
      if (!Value(json, depth + 1)) return false;
      SkipBlanks();
      if (!Eat(',') && (AtEnd() || text_[at_] != close)) return false;
      SkipBlanks();
    }
    *json += ']';
    return true;
  }

  bool Dictionary(std::string* json, int depth) {
    *json += '{';
    SkipBlanks();
    for (bool first = true; !Eat('}'); first = false) {
      if (!first) *json += ", ";
      if (AtEnd() || (text_[at_] != '\'' && text_[at_] != '"') || !String(json)) return false;
      SkipBlanks();
      if (!Eat(':')) return false;
      *json += ": ";
      if (!Value(json, depth + 1)) return false;
      SkipBlanks();
      if (!Eat(',') && (AtEnd() || text_[at_] != '}')) return false;
      SkipBlanks();
    }
    *json += '}';
    return true;
  }

  // A number, True, False or None.
  bool Word(std::string* json) {
    const size_t begin = at_;
    while (!AtEnd() && (IsPythonNameByte(text_[at_]) || text_[at_] == '.' || text_[at_] == '-' ||
                        text_[at_] == '+')) {
      ++at_;
    }
    const std::string_view word = text_.substr(begin, at_ - begin);
    if (word == "True" || word == "true") {
      *json += "true";
    } else if (word == "False" || word == "false") {
      *json += "false";
    } else if (word == "None" || word == "null") {
      *json += "null";
    } else if (!word.empty() && nlohmann::json::accept(word)) {
      *json += word;  // numbers are written alike
    } else {
      return false;
    }
    return true;
  }

  // Strings side by side are one, as in Python.
  bool String(std::string* json) {
    std::string value;
    do {
      if (!OneString(&value)) return false;
      SkipBlanks();
    } while (!AtEnd() && (text_[at_] == '\'' || text_[at_] == '"'));
    *json += '"';
    AppendJsonEscaped(value, json);
    *json += '"';
    return true;
  }

  bool OneString(std::string* value) {
    const char quote = text_[at_++];
    while (!AtEnd() && text_[at_] != quote) {
      const char c = text_[at_++];
      if (c != '\\') {
        value->push_back(c);
      } else if (!Escape(value)) {
        return false;
      }
    }
    return Eat(quote);
  }

  bool Escape(std::string* value) {
    if (AtEnd()) return false;
    const char c = text_[at_++];
    constexpr std::string_view kLetters = "abfnrtv\\'\"0";
    constexpr std::string_view kMeanings = "\a\b\f\n\r\t\v\\'\"";
    if (const size_t i = kLetters.find(c); i != kLetters.npos) {
      value->push_back(i < kMeanings.size() ? kMeanings[i] : '\0');
      return true;
    }
    if (c == '\n') return true;
    const int digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    if (digits == 0) {  // no escape, as in Python
      value->push_back('\\');
      value->push_back(c);
      return true;
    }
    char32_t code_point = 0;
    if (!Hex(digits, &code_point)) return false;
    const bool high = code_point >= 0xd800 && code_point < 0xdc00;
    if (high && text_.substr(at_).starts_with("\\u")) {
      // JSON's way to write a code point beyond U+FFFF; models mix the two.
      at_ += 2;
      char32_t low = 0;
      if (!Hex(4, &low) || low < 0xdc00 || low >= 0xe000) return false;
      code_point = 0x10000 + ((code_point - 0xd800) << 10) + (low - 0xdc00);
    }
    if (code_point > 0x10ffff || (code_point >= 0xd800 && code_point < 0xe000)) return false;
    AppendUtf8(code_point, value);
    return true;
  }

  bool Hex(int digits, char32_t* value) {
    for (int i = 0; i < digits; ++i) {
      constexpr std::string_view kDigits = "0123456789abcdef";
      if (AtEnd()) return false;
      const char c = text_[at_++];
      const size_t digit = kDigits.find(c >= 'A' && c <= 'F' ? static_cast<char>(c + 32) : c);
      if (digit == kDigits.npos) return false;
      *value = *value * 16 + static_cast<char32_t>(digit);
    }
    return true;
  }

  std::string_view text_;
  size_t at_ = 0;
};

}  // namespace

std::optional<std::string> PythonArgumentsToJson(std::string_view arguments) {
  std::string json;
  if (!PythonLiterals(arguments).KeywordArguments(&json)) return std::nullopt;
  return json;
}

CallStep PythonicCallReader::Read(char c, CallSink& sink) {
  if (at_ == At::kFirstKey || at_ == At::kArguments) return ReadArguments(c, sink);
  if (IsBlank(c) && name_.empty()) return CallStep::kMore;
  switch (at_) {
    case At::kOpen:
      at_ = At::kName;
      return c == '[' ? CallStep::kMore : CallStep::kBroken;
    case At::kName:
      if (c == ']' && name_.empty() && any_) return CallStep::kDone;
      if (c == '(' && IsCallName(name_)) {
        arguments_.clear();
        depth_ = 1;
        at_ = At::kFirstKey;
        return CallStep::kMore;
      }
      if (name_.empty() && (c == '.' || c == '-' || (c >= '0' && c <= '9'))) {
        return CallStep::kBroken;
      }
      // Names of tools may contain '-', unlike names in Python.
      if ((!IsPythonNameByte(c) && c != '.' && c != '-') || name_.size() == kMaxNameBytes) {
        return CallStep::kBroken;
      }
      name_.push_back(c);
      return CallStep::kMore;
    case At::kAfterCall:
      if (c == ']') return CallStep::kDone;
      at_ = At::kName;
      return c == ',' ? CallStep::kMore : CallStep::kBroken;
    case At::kFirstKey:
    case At::kArguments:
      break;
  }
  return CallStep::kBroken;
}

CallStep PythonicCallReader::ReadArguments(char c, CallSink& sink) {
  if (at_ == At::kFirstKey && !IsBlank(c) && c != ')') {
    // Prose in brackets fails here: it is not a call.
    if (c == '=' && !Trimmed(arguments_).empty()) {
      at_ = At::kArguments;
    } else if (!IsPythonNameByte(c)) {
      return CallStep::kBroken;
    }
  }
  if (quote_ != 0) {
    if (c == quote_ && !escaped_) quote_ = 0;
    escaped_ = c == '\\' && !escaped_;
  } else if (c == '\'' || c == '"') {
    quote_ = c;
    escaped_ = false;
  } else if (c == '(' || c == '[' || c == '{') {
    ++depth_;
  } else if (c == ')' || c == ']' || c == '}') {
    if (--depth_ == 0) {
      const auto json = PythonArgumentsToJson(arguments_);
      if (c != ')' || !json) return CallStep::kBroken;
      sink.Begin(std::exchange(name_, {}));
      sink.Arguments(*json);
      sink.End();
      any_ = true;
      at_ = At::kAfterCall;
      return CallStep::kMore;
    }
  }
  arguments_.push_back(c);
  return CallStep::kMore;
}

}  // namespace mea::reply
