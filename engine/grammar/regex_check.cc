#include "engine/grammar/regex_check.h"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/grammar/limits.h"
#include "engine/text/utf8.h"
#include "kernels/status_macros.h"

namespace mea::grammar {
namespace {

absl::string_view View(std::string_view text) { return {text.data(), text.size()}; }

absl::Status Bad(std::string_view field, std::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(View(field), " ", View(what)));
}

// "\ud83d\ude00" is one character in JavaScript; the library would let the model write two halves,
// which are no text.
absl::Status CheckSurrogates(std::string_view field, std::string_view text) {
  for (size_t at = 0; at + 1 < text.size(); ++at) {
    if (text[at] != '\\') continue;
    ++at;
    const std::string_view escape = text.substr(at, 5);
    if (escape.size() == 5 && (escape.starts_with("ud") || escape.starts_with("uD")) &&
        std::string_view("89abcdefABCDEF").find(escape[2]) != escape.npos) {
      return Bad(field,
                 absl::StrCat("has \\", View(escape), ", half of a character; write it whole"));
    }
  }
  return absl::OkStatus();
}

// Walks a regex or EBNF once and counts its characters with all repetitions written out. Only EBNF
// has quoted text; everything else is the same in both.
class ExpandedSize {
 public:
  ExpandedSize(std::string_view field, std::string_view text, bool has_quotes, int64_t& budget)
      : field_(field), text_(text), has_quotes_(has_quotes), budget_(budget) {}

  absl::Status Check() {
    groups_.push_back({});
    while (at_ < text_.size()) {
      MEA_RETURN_IF_ERROR(Next());
      if (groups_.back().size > budget_) {
        return Bad(field_, "repeats to too many characters");
      }
    }
    for (const Group& group : groups_) budget_ -= group.size;
    if (budget_ < 0) return Bad(field_, "repeats to too many characters");
    return absl::OkStatus();
  }

 private:
  struct Group {
    int64_t size = 0;  // the last atom included
    int64_t last = 0;  // what a repetition would multiply
  };

  absl::Status Next() {
    const char c = text_[at_];
    switch (c) {
      case '\\':
        at_ += 2;
        return Add(1);
      case '[':
        SkipTo(']');
        return Add(1);
      case '"':
      case '\'':
        if (!has_quotes_ || c == '\'') break;
        return AddQuoted();
      case '#':
        if (!has_quotes_) break;
        at_ = std::min(text_.find('\n', at_), text_.size());
        return absl::OkStatus();
      case '(':
        if (groups_.size() > kMaxGroupDepth) {
          return Bad(field_, absl::StrCat("has brackets more than ", kMaxGroupDepth, " deep"));
        }
        groups_.push_back({});
        ++at_;
        return absl::OkStatus();
      case ')':
        ++at_;
        if (groups_.size() > 1) {
          const int64_t size = groups_.back().size;
          groups_.pop_back();
          return Add(size);
        }
        return absl::OkStatus();
      case '{':
        return Repeat();
      default:
        if (has_quotes_ && c >= 'A' && c <= 'Z') {
          MEA_RETURN_IF_ERROR(CheckName());
        }
        break;
    }
    ++at_;
    return c == ' ' || c == '|' ? absl::OkStatus() : Add(1);
  }

  // The library's macros contain a language of their own, and regular expressions.
  absl::Status CheckName() {
    for (const std::string_view macro :
         {"TagDispatch", "TokenTagDispatch", "Token", "ExcludeToken", "Regex", "Substring"}) {
      const size_t end = text_.find_first_not_of(" \t\r\n", at_ + macro.size());
      const bool is_called = end != text_.npos && text_[end] == '(';
      if (text_.substr(at_).starts_with(macro) && is_called) {
        return Bad(field_, absl::StrCat("uses ", std::string(macro), "(), which is not supported"));
      }
    }
    return absl::OkStatus();
  }

  absl::Status Add(int64_t size) {
    groups_.back().last = size;
    groups_.back().size += size;
    return absl::OkStatus();
  }

  // Moves past the next `end` that is not escaped.
  void SkipTo(char end) {
    for (++at_; at_ < text_.size() && text_[at_] != end; ++at_) {
      if (text_[at_] == '\\') ++at_;
    }
    at_ = std::min(at_ + 1, text_.size());
  }

  absl::Status AddQuoted() {
    const size_t begin = at_;
    SkipTo('"');
    return Add(static_cast<int64_t>(at_ - begin));
  }

  // {n}, {n,} or {n,m} after an atom; the library refuses anything else in braces.
  absl::Status Repeat() {
    int64_t most = 0;
    int64_t number = 0;
    for (++at_; at_ < text_.size() && text_[at_] != '}'; ++at_) {
      const char c = text_[at_];
      if (c >= '0' && c <= '9') {
        number = std::min<int64_t>(number * 10 + (c - '0'), int64_t{1} << 40);
        most = std::max(most, number);
      } else {
        number = 0;
      }
      if (most > kMaxCount) {
        return Bad(field_, absl::StrCat("repeats more than ", kMaxCount, " times"));
      }
    }
    at_ = std::min(at_ + 1, text_.size());
    Group& group = groups_.back();
    const int64_t repeated = group.last * std::max<int64_t>(most, 1);
    group.size += repeated - group.last;
    group.last = repeated;
    return absl::OkStatus();
  }

  const std::string_view field_;
  const std::string_view text_;
  const bool has_quotes_;
  int64_t& budget_;
  size_t at_ = 0;
  std::vector<Group> groups_;
};

// The regex without anchors that change nothing.
absl::StatusOr<std::string> WithoutAnchors(std::string_view field, std::string_view regex) {
  std::string out;
  int depth = 0;
  for (size_t i = 0; i < regex.size(); ++i) {
    const char c = regex[i];
    if (c == '\\' && i + 1 < regex.size()) {
      out.append(regex.substr(i++, 2));
      continue;
    }
    if (c == '[') {
      const size_t begin = i;
      for (++i; i < regex.size() && regex[i] != ']'; ++i) {
        if (regex[i] == '\\') ++i;
      }
      out.append(regex.substr(begin, std::min(i, regex.size() - 1) - begin + 1));
      continue;
    }
    depth += (c == '(') - (c == ')');
    if (c == '^' || c == '$') {
      const bool first = i == 0 || regex[i - 1] == '|';
      const bool last = i + 1 == regex.size() || regex[i + 1] == '|';
      if (depth != 0 || !(c == '^' ? first : last)) {
        return Bad(field, "has an anchor that is not at an end of it");
      }
      continue;
    }
    out.push_back(c);
  }
  return out;
}

// "(x)?" becomes "(|x)": for the first form, the library's automaton also accepts only the end of x
// if x ends with a repetition. A second '?', which would make it lazy, changes nothing for whole
// texts.
std::string WithoutOptionalGroups(std::string_view regex) {
  std::string out;
  std::vector<size_t> groups;  // where the open groups begin in `out`, after the bracket
  for (size_t i = 0; i < regex.size(); ++i) {
    const char c = regex[i];
    out.push_back(c);
    if (c == '\\' && i + 1 < regex.size()) {
      out.push_back(regex[++i]);
    } else if (c == '[') {
      while (i + 1 < regex.size() && regex[i + 1] != ']') {
        out.push_back(regex[++i]);
        if (regex[i] == '\\' && i + 1 < regex.size()) out.push_back(regex[++i]);
      }
    } else if (c == '(') {
      groups.push_back(out.size());
    } else if (c == ')' && !groups.empty()) {
      size_t begin = groups.back();
      groups.pop_back();
      if (i + 1 >= regex.size() || regex[i + 1] != '?') continue;
      if (out[begin] == '?') {
        if (out[begin + 1] != ':') continue;  // the library's to refuse
        begin += 2;
      }
      out.insert(begin, 1, '|');
      while (i + 1 < regex.size() && regex[i + 1] == '?') ++i;
    }
  }
  return out;
}

std::string Escaped(std::string_view valid) {
  std::string out;
  for (size_t i = 0; i < valid.size(); i += CodePointSize(valid[i])) {
    if (static_cast<unsigned char>(valid[i]) < 0x80) {
      out.push_back(valid[i]);
      continue;
    }
    const uint32_t code_point = static_cast<uint32_t>(CodePointAt(valid, i));
    char hex[16];
    std::snprintf(hex, sizeof hex, code_point > 0xffff ? "\\u{%X}" : "\\u%04X", code_point);
    out += hex;
  }
  return out;
}

}  // namespace

absl::StatusOr<std::string> PrepareRegex(std::string_view field, std::string_view regex,
                                         int64_t& budget) {
  if (regex.size() > kMaxRegexBytes) {
    return Bad(field, absl::StrCat("of ", regex.size(), " bytes exceeds ", kMaxRegexBytes));
  }
  if (!IsValidUtf8(regex)) return Bad(field, "is not valid UTF-8");
  for (const char c : regex) {
    if (static_cast<unsigned char>(c) < 0x20) return Bad(field, "has a control character");
  }
  MEA_RETURN_IF_ERROR(CheckSurrogates(field, regex));
  MEA_RETURN_IF_ERROR(ExpandedSize(field, regex, false, budget).Check());
  MEA_ASSIGN_OR_RETURN(std::string plain, WithoutAnchors(field, regex));
  return Escaped(WithoutOptionalGroups(plain));
}

std::string DotsWithinLines(std::string_view regex) {
  std::string out;
  bool in_class = false;
  for (size_t i = 0; i < regex.size(); ++i) {
    const char c = regex[i];
    if (c == '\\' && i + 1 < regex.size()) {
      out.append(regex.substr(i++, 2));
      continue;
    }
    in_class = in_class ? c != ']' : c == '[';
    if (c == '.' && !in_class) {
      out += "[^\\n]";
    } else {
      out.push_back(c);
    }
  }
  return out;
}

absl::Status CheckEbnf(std::string_view field, std::string_view text) {
  if (text.size() > kMaxEbnfBytes) {
    return Bad(field, absl::StrCat("of ", text.size(), " bytes exceeds ", kMaxEbnfBytes));
  }
  if (!IsValidUtf8(text)) return Bad(field, "is not valid UTF-8");
  if (text.find('\0') != text.npos) return Bad(field, "has a NUL character");
  MEA_RETURN_IF_ERROR(CheckSurrogates(field, text));
  int64_t budget = kMaxEbnfStates;
  return ExpandedSize(field, text, true, budget).Check();
}

}  // namespace mea::grammar
