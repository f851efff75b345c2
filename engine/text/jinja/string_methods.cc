#include <absl/container/flat_hash_map.h>
#include <absl/strings/str_cat.h>
#include <unicode/uchar.h>

#include <algorithm>

#include "engine/text/jinja/builtins.h"
#include "engine/text/jinja/interpreter.h"
#include "engine/text/jinja/limits.h"
#include "engine/text/jinja/unicode.h"
#include "engine/text/utf8.h"

// The methods of Python's str. `self` is a string.
namespace mea::jinja {
namespace {

// strip, lstrip, rstrip.
template <bool kLeft, bool kRight>
Value StripMethod(Interpreter& in, const Value& self, const CallArgs& args) {
  Bound bound(in, "strip", args, {"chars"});
  if (!bound.ok()) return Value();
  if (!bound.Given(0)) {
    const auto [begin, end] = StripSpace(self.text(), kLeft, kRight);
    return in.Slice(self, begin, end);
  }
  const MarkedText chars = bound.Text(0, "");
  if (!bound.ok()) return Value();
  const auto [begin, end] = StripChars(self.text(), chars.text, kLeft, kRight);
  return in.Slice(self, begin, end);
}

// The last part of a split with a limit keeps the white space at its far end.
std::vector<Value> SplitAtSpace(Interpreter& in, const Value& self, int64_t most, bool from_right) {
  const std::string_view text = self.text();
  std::vector<ByteRange> parts;
  size_t begin = 0, end = text.size();
  while (in.Charge(1)) {
    if (from_right) {
      end = StripSpace(text.substr(0, end), false, true).second;
    } else {
      begin += StripSpace(text.substr(begin), true, false).first;
    }
    if (begin == end) break;
    if (most >= 0 && static_cast<int64_t>(parts.size()) == most) {
      parts.emplace_back(begin, end);
      break;
    }
    size_t at = from_right ? end : begin;
    if (from_right) {
      while (at > 0 && !IsPySpace(CodePointAt(text, CodePointBefore(text, at)))) {
        at = CodePointBefore(text, at);
      }
      parts.emplace_back(at, end);
      end = at;
    } else {
      while (at < end && !IsPySpace(CodePointAt(text, at))) at += CodePointSize(text[at]);
      parts.emplace_back(begin, at);
      begin = at;
    }
  }
  if (from_right) std::reverse(parts.begin(), parts.end());
  std::vector<Value> result;
  for (const auto& [from, to] : parts) {
    result.push_back(in.Slice(self, from, to));
    if (in.failed()) break;
  }
  return result;
}

template <bool kFromRight>
Value SplitMethod(Interpreter& in, const Value& self, const CallArgs& args) {
  Bound bound(in, "split", args, {"sep", "maxsplit"});
  const int64_t most = bound.Int(1, -1);
  if (!bound.ok()) return Value();
  if (!bound.Given(0)) return in.NewList(SplitAtSpace(in, self, most, kFromRight));
  const std::string separator = bound.Text(0, "").text;
  if (!bound.ok()) return Value();
  if (separator.empty()) return in.Fail("split is given an empty separator");
  const std::string_view text = self.text();
  std::vector<ByteRange> parts;
  size_t begin = 0, end = text.size();
  while ((most < 0 || static_cast<int64_t>(parts.size()) < most) && in.Charge(1)) {
    const size_t at =
        kFromRight ? FindLast(text, separator, end) : FindFirst(text, separator, begin);
    if (at == text.npos) break;
    if (kFromRight) {
      parts.emplace_back(at + separator.size(), end);
      end = at;
    } else {
      parts.emplace_back(begin, at);
      begin = at + separator.size();
    }
  }
  parts.emplace_back(begin, end);
  if (kFromRight) std::reverse(parts.begin(), parts.end());
  std::vector<Value> result;
  for (const auto& [from, to] : parts) {
    result.push_back(in.Slice(self, from, to));
    if (in.failed()) return Value();
  }
  return in.NewList(std::move(result));
}

template <bool kFromRight>
Value PartitionMethod(Interpreter& in, const Value& self, const CallArgs& args) {
  Bound bound(in, "partition", args, {"sep"}, 1);
  const MarkedText separator = bound.Text(0, "");
  if (!bound.ok()) return Value();
  if (separator.text.empty()) return in.Fail("partition is given an empty separator");
  const std::string_view text = self.text();
  const size_t at =
      kFromRight ? FindLast(text, separator.text, text.size()) : FindFirst(text, separator.text, 0);
  const Value empty = Value::Constant("");
  std::vector<Value> parts =
      kFromRight ? std::vector{empty, empty, self} : std::vector{self, empty, empty};
  if (at != text.npos) {
    parts = {in.Slice(self, 0, at), in.NewString(separator),
             in.Slice(self, at + separator.size(), text.size())};
  }
  return in.NewList(std::move(parts), Kind::kTuple);
}

Value SplitLines(Interpreter& in, const Value& self, const CallArgs& args) {
  Bound bound(in, "splitlines", args, {"keepends"});
  if (!bound.ok()) return Value();
  const bool keep = bound.Truth(0, false);
  const std::string_view text = self.text();
  std::vector<Value> lines;
  size_t begin = 0;
  for (size_t at = 0; at < text.size() && !in.failed();) {
    const char32_t c = CodePointAt(text, at);
    size_t next = at + CodePointSize(text[at]);
    if (IsLineBreak(c)) {
      if (c == '\r' && next < text.size() && text[next] == '\n') ++next;
      lines.push_back(in.Slice(self, begin, keep ? next : at));
      begin = next;
    }
    at = next;
  }
  if (begin < text.size()) lines.push_back(in.Slice(self, begin, text.size()));
  return in.NewList(std::move(lines));
}

Value ReplaceMethod(Interpreter& in, const Value& self, const CallArgs& args) {
  Bound bound(in, "replace", args, {"old", "new", "count"}, 2);
  const std::string old = bound.Text(0, "").text;
  MarkedText with = bound.Text(1, "");
  int64_t count = bound.Int(2, -1);
  if (!bound.ok()) return Value();
  if (self.safe()) with = Escaped(in, bound[1]).marked();
  const std::string_view text = self.text();
  TextBuilder out;
  size_t done = 0;
  for (size_t at = 0; count != 0 && !out.overflown(); --count) {
    const size_t found = old.empty() ? at : FindFirst(text, old, at);
    if (found > text.size()) break;
    out.Add(self.marked(), done, found);
    out.Add(with);
    done = found + old.size();
    at = done;
    if (old.empty()) {
      if (found == text.size()) break;
      at = found + CodePointSize(text[found]);
    }
  }
  out.Add(self.marked(), done, text.size());
  return in.NewString(std::move(out), self.safe());
}

template <Case kCase>
Value CaseMethod(Interpreter& in, const Value& self, const CallArgs&) {
  TextBuilder out;
  if constexpr (kCase == Case::kTitle || kCase == Case::kSwap) {
    const std::string_view text = self.text();
    if (!in.Charge(self.string().length / 4)) return Value();
    bool in_word = false;
    for (size_t at = 0; at < text.size();) {
      const size_t next = at + CodePointSize(text[at]);
      const bool cased = u_hasBinaryProperty(CodePointAt(text, at), UCHAR_CASED);
      const Case to = kCase == Case::kSwap ? Case::kSwap : in_word ? Case::kLower : Case::kTitle;
      AddInCase(self.marked(), at, next, to, &out);
      in_word = cased;
      at = next;
    }
  } else {
    AddInCase(self.marked(), 0, self.text().size(), kCase, &out);
  }
  return in.NewString(std::move(out), self.safe());
}

Value Capitalize(Interpreter& in, const Value& self, const CallArgs&) {
  if (self.text().empty()) return self;
  TextBuilder out;
  const size_t first = CodePointSize(self.text()[0]);
  AddInCase(self.marked(), 0, first, Case::kTitle, &out);
  AddInCase(self.marked(), first, self.text().size(), Case::kLower, &out);
  return in.NewString(std::move(out), self.safe());
}

// The bytes of self[start:end], whose bounds are arguments 1 and 2.
ByteRange Window(const Value& self, Bound& bound) {
  const int64_t length = self.string().length;
  const bool ascii = length == static_cast<int64_t>(self.text().size());
  const auto place = [&](size_t i, int64_t otherwise) {
    const int64_t at = bound.Int(i, otherwise);
    return ByteOffset(self.text(), std::clamp<int64_t>(at < 0 ? at + length : at, 0, length),
                      ascii);
  };
  const size_t begin = place(1, 0);
  return {begin, std::max(begin, place(2, length))};
}

template <bool kFromRight, bool kMustBeThere>
Value FindMethod(Interpreter& in, const Value& self, const CallArgs& args) {
  Bound bound(in, "find", args, {"sub", "start", "end"}, 1);
  const std::string what = bound.Text(0, "").text;
  const auto [begin, end] = Window(self, bound);
  if (!bound.ok()) return Value();
  const std::string_view text = self.text().substr(0, end);
  size_t at = kFromRight ? end : begin;
  if (!what.empty()) at = kFromRight ? FindLast(text, what, end) : FindFirst(text, what, begin);
  if (at == text.npos || at < begin) {
    return kMustBeThere ? in.Fail("the substring is not found") : Value::Int(-1);
  }
  return Value::Int(std::count_if(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(at),
                                  [](char c) { return (c & 0xc0) != 0x80; }));
}

Value CountMethod(Interpreter& in, const Value& self, const CallArgs& args) {
  Bound bound(in, "count", args, {"sub", "start", "end"}, 1);
  const std::string what = bound.Text(0, "").text;
  const auto [begin, end] = Window(self, bound);
  if (!bound.ok()) return Value();
  if (what.empty()) return Value::Int(self.string().length + 1);
  const std::string_view text = self.text().substr(0, end);
  int64_t count = 0;
  for (size_t at = begin; (at = FindFirst(text, what, at)) != text.npos; at += what.size()) ++count;
  return Value::Int(count);
}

template <bool kAtEnd>
Value StartsOrEnds(Interpreter& in, const Value& self, const CallArgs& args) {
  Bound bound(in, kAtEnd ? "endswith" : "startswith", args, {"prefix", "start", "end"}, 1);
  const auto [begin, end] = Window(self, bound);
  if (!bound.ok()) return Value();
  const std::string_view text = self.text().substr(begin, end - begin);
  const auto holds = [&](const Value& part) {
    if (!part.is_string()) {
      in.Fail(absl::StrCat(kAtEnd ? "endswith" : "startswith", " takes a string, not a ",
                           TypeName(part).data()));
      return false;
    }
    return kAtEnd ? text.ends_with(part.text()) : text.starts_with(part.text());
  };
  if (!bound[0].Is(Kind::kTuple)) return Value::Bool(holds(bound[0]));
  const auto& parts = bound[0].items();
  return Value::Bool(std::any_of(parts.begin(), parts.end(), holds));
}

template <bool kAtEnd>
Value RemoveAffix(Interpreter& in, const Value& self, const CallArgs& args) {
  Bound bound(in, kAtEnd ? "removesuffix" : "removeprefix", args, {"affix"}, 1);
  const std::string part = bound.Text(0, "").text;
  if (!bound.ok()) return Value();
  const std::string_view text = self.text();
  if (kAtEnd) {
    return text.ends_with(part) ? in.Slice(self, 0, text.size() - part.size()) : self;
  }
  return text.starts_with(part) ? in.Slice(self, part.size(), text.size()) : self;
}

Value JoinMethod(Interpreter& in, const Value& self, const CallArgs& args) {
  Bound bound(in, "join", args, {"iterable"}, 1);
  if (!bound.ok()) return Value();
  TextBuilder out;
  bool first = true;
  for (const Value& item : in.Items(bound[0])) {
    if (!item.is_string()) {
      return in.Fail(absl::StrCat("join takes strings, not a ", TypeName(item).data()));
    }
    if (!std::exchange(first, false)) out.Add(self.marked());
    out.Add(self.safe() ? Escaped(in, item).marked() : item.marked());
    if (in.failed() || out.overflown()) break;
  }
  return in.NewString(std::move(out), self.safe());
}

// ljust, rjust, center, zfill: `left` of the padding goes before the text.
Value Padded(Interpreter& in, const Value& self, int64_t width, const MarkedText& fill, int side) {
  const int64_t missing = width - self.string().length;
  if (missing <= 0) return self;
  if (missing > static_cast<int64_t>(kMaxStringBytes)) return in.Fail("the width is too large");
  // As CPython centers: the odd one goes left where the width is odd.
  const int64_t left = side < 0 ? 0 : side > 0 ? missing : missing / 2 + (missing & width & 1);
  TextBuilder out;
  for (int64_t i = 0; i < left; ++i) out.Add(fill);
  out.Add(self.marked());
  for (int64_t i = left; i < missing; ++i) out.Add(fill);
  return in.NewString(std::move(out), self.safe());
}

template <int kSide>
Value JustMethod(Interpreter& in, const Value& self, const CallArgs& args) {
  Bound bound(in, "center", args, {"width", "fillchar"}, 1);
  const int64_t width = bound.Int(0, 0);
  const MarkedText fill = bound.Text(1, " ");
  return bound.ok() ? Padded(in, self, width, fill, kSide) : Value();
}

Value ZFill(Interpreter& in, const Value& self, const CallArgs& args) {
  Bound bound(in, "zfill", args, {"width"}, 1);
  const int64_t width = bound.Int(0, 0);
  if (!bound.ok()) return Value();
  const bool sign = self.text().starts_with('-') || self.text().starts_with('+');
  const Value digits = in.Slice(self, sign ? 1 : 0, self.text().size());
  if (in.failed()) return Value();
  const Value padded = Padded(in, digits, width - sign, {"0", {}}, 1);
  if (in.failed() || !sign) return padded;
  TextBuilder out;
  out.Add(self.marked(), 0, 1);
  out.Add(padded.marked());
  return in.NewString(std::move(out));
}

using CodePointTest = bool (*)(char32_t);

template <CodePointTest kTest>
Value AllAre(Interpreter&, const Value& self, const CallArgs&) {
  const std::string_view text = self.text();
  for (size_t at = 0; at < text.size(); at += CodePointSize(text[at])) {
    if (!kTest(CodePointAt(text, at))) return Value::Bool(false);
  }
  return Value::Bool(!text.empty());
}

bool IsDecimal(char32_t c) { return u_charType(static_cast<UChar32>(c)) == U_DECIMAL_DIGIT_NUMBER; }
bool IsDigit(char32_t c) {
  const auto type = u_getIntPropertyValue(static_cast<UChar32>(c), UCHAR_NUMERIC_TYPE);
  return type == U_NT_DECIMAL || type == U_NT_DIGIT;
}
bool IsNumeric(char32_t c) {
  return u_getIntPropertyValue(static_cast<UChar32>(c), UCHAR_NUMERIC_TYPE) != U_NT_NONE;
}
bool IsAlpha(char32_t c) { return (U_GET_GC_MASK(static_cast<UChar32>(c)) & U_GC_L_MASK) != 0; }
bool IsAlnum(char32_t c) { return IsAlpha(c) || IsNumeric(c); }
bool IsAscii7(char32_t c) { return c < 0x80; }

// islower, isupper: some letter has case, and none has another.
template <bool kUpper>
Value HasCase(Interpreter&, const Value& self, const CallArgs&) {
  const std::string_view text = self.text();
  bool any = false;
  for (size_t at = 0; at < text.size(); at += CodePointSize(text[at])) {
    const auto c = static_cast<UChar32>(CodePointAt(text, at));
    const bool upper = u_isUUppercase(c), lower = u_isULowercase(c);
    if ((kUpper ? lower : upper) || u_istitle(c)) return Value::Bool(false);
    any |= kUpper ? upper : lower;
  }
  return Value::Bool(any);
}

Value FormatMethod(Interpreter& in, const Value& self, const CallArgs& args) {
  return FormatBraces(in, self, args);
}

}  // namespace

MethodBody FindStringMethod(std::string_view name) {
  static const absl::flat_hash_map<std::string_view, MethodBody> methods = {
      {"capitalize", Capitalize},
      {"casefold", CaseMethod<Case::kLower>},
      {"center", JustMethod<0>},
      {"count", CountMethod},
      {"endswith", StartsOrEnds<true>},
      {"find", FindMethod<false, false>},
      {"format", FormatMethod},
      {"index", FindMethod<false, true>},
      {"isalnum", AllAre<IsAlnum>},
      {"isalpha", AllAre<IsAlpha>},
      {"isascii", AllAre<IsAscii7>},
      {"isdecimal", AllAre<IsDecimal>},
      {"isdigit", AllAre<IsDigit>},
      {"islower", HasCase<false>},
      {"isnumeric", AllAre<IsNumeric>},
      {"isspace", AllAre<IsPySpace>},
      {"isupper", HasCase<true>},
      {"join", JoinMethod},
      {"ljust", JustMethod<-1>},
      {"lower", CaseMethod<Case::kLower>},
      {"lstrip", StripMethod<true, false>},
      {"partition", PartitionMethod<false>},
      {"removeprefix", RemoveAffix<false>},
      {"removesuffix", RemoveAffix<true>},
      {"replace", ReplaceMethod},
      {"rfind", FindMethod<true, false>},
      {"rindex", FindMethod<true, true>},
      {"rjust", JustMethod<1>},
      {"rpartition", PartitionMethod<true>},
      {"rsplit", SplitMethod<true>},
      {"rstrip", StripMethod<false, true>},
      {"split", SplitMethod<false>},
      {"splitlines", SplitLines},
      {"startswith", StartsOrEnds<false>},
      {"strip", StripMethod<true, true>},
      {"swapcase", CaseMethod<Case::kSwap>},
      {"title", CaseMethod<Case::kTitle>},
      {"upper", CaseMethod<Case::kUpper>},
      {"zfill", ZFill},
  };
  const auto it = methods.find(name);
  return it == methods.end() ? nullptr : it->second;
}

}  // namespace mea::jinja
