#include <absl/container/flat_hash_map.h>
#include <absl/strings/ascii.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include <algorithm>
#include <cmath>

#include "engine/text/jinja/builtins.h"
#include "engine/text/jinja/interpreter.h"
#include "engine/text/jinja/limits.h"
#include "engine/text/jinja/unicode.h"
#include "engine/text/utf8.h"

// Filters of one string or number.
namespace mea::jinja {
namespace {

constexpr double kInt64Bound = 9223372036854775808.0;

// Calls a method of str on the text of any value.
template <char... kName>
Value ByMethod(Interpreter& in, const Value& input, const CallArgs& args) {
  static constexpr char kText[] = {kName..., '\0'};
  const Value text = in.Str(input);
  return in.failed() ? Value() : FindStringMethod(kText)(in, text, args);
}

Value ReplaceFilter(Interpreter& in, const Value& input, const CallArgs& args) {
  Bound bound(in, "replace", args, {"old", "new", "count"}, 2);
  if (!bound.ok()) return Value();
  CallArgs texts;
  const Value text = in.Str(input);
  texts.positional = {in.Str(bound[0]), in.Str(bound[1])};
  if (bound.Given(2)) texts.positional.push_back(bound[2]);
  return in.failed() ? Value() : FindStringMethod("replace")(in, text, texts);
}

// Words begin after white space, "-" and opening brackets.
Value TitleFilter(Interpreter& in, const Value& input, const CallArgs&) {
  const Value value = in.Str(input);
  if (in.failed() || !in.Charge(value.string().length / 4)) return Value();
  const std::string_view text = value.text();
  TextBuilder out;
  bool begins = true;
  for (size_t at = 0; at < text.size();) {
    size_t next = at + CodePointSize(text[at]);
    const char32_t c = CodePointAt(text, at);
    const bool divides =
        IsPySpace(c) ||
        (c < 0x80 && std::string_view("-({[<").find(static_cast<char>(c)) != text.npos);
    if (divides) {
      out.Add(value.marked(), at, next);
    } else {
      AddInCase(value.marked(), at, next, begins ? Case::kUpper : Case::kLower, &out);
    }
    begins = divides;
    at = next;
  }
  return in.NewString(std::move(out), value.safe());
}

Value StringFilter(Interpreter& in, const Value& input, const CallArgs&) { return in.Str(input); }

Value SafeFilter(Interpreter& in, const Value& input, const CallArgs&) {
  const Value text = in.Str(input);
  return in.failed() ? Value() : in.NewString(text.marked(), true);
}

Value EscapeFilter(Interpreter& in, const Value& input, const CallArgs&) {
  return Escaped(in, input);
}

Value ForceEscape(Interpreter& in, const Value& input, const CallArgs&) {
  const Value text = in.Str(input);
  return in.failed() ? Value() : Escaped(in, in.NewString(text.marked()));
}

Value FormatFilter(Interpreter& in, const Value& input, const CallArgs& args) {
  const Value text = in.Str(input);
  if (in.failed()) return Value();
  if (args.named.empty()) {
    return FormatPercent(in, text, in.NewList(args.positional, Kind::kTuple));
  }
  if (!args.positional.empty()) return in.Fail("format is given positional and named values");
  auto dict = std::make_shared<DictObject>();
  for (const auto& [name, value] : args.named) dict->Set(in.NewString(name), value);
  return FormatPercent(in, text, in.NewDict(std::move(dict)));
}

Value IndentFilter(Interpreter& in, const Value& input, const CallArgs& args) {
  Bound bound(in, "indent", args, {"width", "first", "blank"});
  if (!bound.ok()) return Value();
  if (input.undefined()) return in.FailUndefined(input);
  if (!input.is_string()) {
    return in.Fail(absl::StrCat("indent takes a string, not a ", TypeName(input).data()));
  }
  MarkedText indent;
  if (bound[0].is_string()) {
    indent = bound[0].marked();
  } else {
    const int64_t width = bound.Int(0, 4);
    if (!bound.ok() || width > 10'000) return in.Fail("the width of indent exceeds 10000");
    indent.text.assign(static_cast<size_t>(std::max<int64_t>(width, 0)), ' ');
  }
  const bool blank = bound.Truth(2, false);
  TextBuilder with_newline;
  with_newline.Add(input.marked());
  with_newline.Add("\n");
  const Value text = in.NewString(std::move(with_newline));
  if (in.failed()) return Value();
  const Value lines = FindStringMethod("splitlines")(in, text, {});
  if (in.failed()) return Value();
  TextBuilder out;
  if (bound.Truth(1, false)) out.Add(indent);
  bool first = true;
  for (const Value& line : lines.items()) {
    if (!std::exchange(first, false)) {
      out.Add("\n");
      if (blank || !line.text().empty()) out.Add(indent);
    }
    out.Add(line.marked());
  }
  return in.NewString(std::move(out), input.safe());
}

Value TruncateFilter(Interpreter& in, const Value& input, const CallArgs& args) {
  Bound bound(in, "truncate", args, {"length", "killwords", "end", "leeway"});
  const int64_t length = bound.Int(0, 255), leeway = bound.Int(3, 5);
  const MarkedText end = bound.Text(2, "...");
  if (!bound.ok()) return Value();
  if (!input.is_string()) {  // short enough: unchanged
    if (in.Length(input) - leeway <= length || in.failed()) return input;
    return in.Fail(absl::StrCat("truncate takes a string, not a ", TypeName(input).data()));
  }
  const Value& text = input;
  const auto end_length = static_cast<int64_t>(
      std::count_if(end.text.begin(), end.text.end(), [](char c) { return (c & 0xc0) != 0x80; }));
  if (length < end_length || leeway < 0) return in.Fail("the length of truncate is too small");
  if (text.string().length - leeway <= length) return text;
  size_t stop = ByteOffset(text.text(), length - end_length, false);
  if (!bound.Truth(1, false)) {
    const size_t space = text.text().substr(0, stop).rfind(' ');
    if (space != std::string_view::npos) stop = space;
  }
  TextBuilder out;
  out.Add(text.marked(), 0, stop);
  out.Add(end);
  return in.NewString(std::move(out), text.safe());
}

Value WordCount(Interpreter& in, const Value& input, const CallArgs&) {
  const Value value = in.Str(input);
  if (in.failed() || !in.Charge(value.string().length / 16)) return Value();
  const std::string_view text = value.text();
  int64_t words = 0;
  bool in_word = false;
  for (size_t at = 0; at < text.size(); at += CodePointSize(text[at])) {
    const Value c = Value::Constant(std::string(text.substr(at, CodePointSize(text[at]))));
    const bool part = c.text() == "_" || FindStringMethod("isalnum")(in, c, {}).as_bool();
    words += part && !in_word;
    in_word = part;
  }
  return Value::Int(words);
}

Value UrlEncode(Interpreter& in, const Value& input, const CallArgs&) {
  if (input.is_dict() || input.has_items()) return in.Fail("urlencode takes a string here");
  const Value value = in.Str(input);
  if (in.failed()) return Value();
  TextBuilder out;
  const std::string_view text = value.text();
  for (size_t at = 0; at < text.size() && !out.overflown(); ++at) {
    const char c = text[at];
    const bool plain =
        absl::ascii_isalnum(c) || c == '_' || c == '.' || c == '-' || c == '~' || c == '/';
    out.Add(plain ? std::string(1, c) : absl::StrFormat("%%%02X", static_cast<uint8_t>(c)),
            value.marked().HasInput(at, at + 1));
  }
  return in.NewString(std::move(out));
}

// int(text, base) of Python.
bool ParsePyInt(std::string_view text, int64_t base, int64_t* result) {
  const auto [begin, end] = StripSpace(text, true, true);
  std::string digits(text.substr(begin, end - begin));
  bool negative = false;
  if (!digits.empty() && (digits[0] == '-' || digits[0] == '+')) {
    negative = digits[0] == '-';
    digits.erase(0, 1);
  }
  if (digits.size() > 1 && digits[0] == '0') {
    const char c = absl::ascii_tolower(digits[1]);
    const int64_t named = c == 'x' ? 16 : c == 'o' ? 8 : c == 'b' ? 2 : 0;
    if (named != 0 && (base == named || base == 0)) {
      base = named;
      digits.erase(0, digits.size() > 2 && digits[2] == '_' ? 3 : 2);
    }
  }
  if (base == 0) base = 10;
  if (digits.empty() || digits.front() == '_' || digits.back() == '_') return false;
  int64_t value = 0;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (digits[i] == '_' && digits[i - 1] != '_') continue;
    const char c = absl::ascii_tolower(digits[i]);
    const int digit = absl::ascii_isdigit(c) ? c - '0' : absl::ascii_isalpha(c) ? c - 'a' + 10 : 99;
    if (digit >= base || __builtin_mul_overflow(value, base, &value) ||
        __builtin_sub_overflow(value, digit, &value)) {
      return false;
    }
  }
  if (!negative && value == INT64_MIN) return false;
  *result = negative ? value : -value;
  return true;
}

// float(text) of Python.
bool ParsePyFloat(std::string_view text, double* result) {
  const auto [begin, end] = StripSpace(text, true, true);
  std::string digits(text.substr(begin, end - begin));
  for (size_t i = 0; i < digits.size(); ++i) {
    if (digits[i] != '_') continue;
    const bool between = i > 0 && i + 1 < digits.size() && absl::ascii_isdigit(digits[i - 1]) &&
                         absl::ascii_isdigit(digits[i + 1]);
    if (!between) return false;
  }
  digits.erase(std::remove(digits.begin(), digits.end(), '_'), digits.end());
  if (digits.find_first_of("xXpP") != digits.npos) return false;
  return absl::SimpleAtod(digits, result);
}

Value IntFilter(Interpreter& in, const Value& input, const CallArgs& args) {
  Bound bound(in, "int", args, {"default", "base"});
  const int64_t base = bound.Int(1, 10);
  if (!bound.ok()) return Value();
  if (base != 0 && (base < 2 || base > 36)) return in.Fail("the base of int is not from 2 to 36");
  const Value otherwise = bound[0].missing() ? Value::Int(0) : bound[0];
  if (input.undefined()) return in.FailUndefined(input);
  if (input.Is(Kind::kBigInt)) return input;
  if (input.is_integer()) return Value::Int(input.as_int());
  double number = 0;
  if (input.is_string()) {
    int64_t integer;
    if (ParsePyInt(input.text(), base, &integer)) return Value::Int(integer);
    if (!ParsePyFloat(input.text(), &number)) return otherwise;
  } else if (input.Is(Kind::kFloat)) {
    number = input.as_float();
  } else {
    return otherwise;
  }
  if (!std::isfinite(number)) return otherwise;
  if (!(number >= -kInt64Bound && number < kInt64Bound)) {
    return in.Fail("int gives an integer beyond 64 bits");
  }
  return Value::Int(static_cast<int64_t>(number));
}

Value FloatFilter(Interpreter& in, const Value& input, const CallArgs& args) {
  Bound bound(in, "float", args, {"default"});
  if (!bound.ok()) return Value();
  if (input.undefined()) return in.FailUndefined(input);
  if (input.is_number()) return Value::Float(input.as_float());
  double number = 0;
  if ((input.is_string() || input.Is(Kind::kBigInt)) && ParsePyFloat(input.text(), &number)) {
    return Value::Float(number);
  }
  return bound[0].missing() ? Value::Float(0) : bound[0];
}

Value AbsFilter(Interpreter& in, const Value& input, const CallArgs&) {
  if (input.undefined()) return in.FailUndefined(input);
  if (input.Is(Kind::kFloat)) return Value::Float(std::abs(input.as_float()));
  if (!input.is_integer()) {
    return in.Fail(absl::StrCat("abs takes a number, not a ", TypeName(input).data()));
  }
  if (input.as_int() == INT64_MIN) return in.Fail("an integer exceeds 64 bits");
  return Value::Int(std::abs(input.as_int()));
}

Value RoundFilter(Interpreter& in, const Value& input, const CallArgs& args) {
  Bound bound(in, "round", args, {"precision", "method"});
  const int64_t precision = bound.Int(0, 0);
  const std::string method = bound.Text(1, "common").text;
  if (!bound.ok()) return Value();
  if (input.undefined()) return in.FailUndefined(input);
  if (!input.is_number()) {
    return in.Fail(absl::StrCat("round takes a number, not a ", TypeName(input).data()));
  }
  if (precision < -300 || precision > 300) return in.Fail("the precision of round exceeds 300");
  const double number = input.as_float();
  const double scale = std::pow(10.0, static_cast<double>(precision));
  if (method == "ceil") return Value::Float(std::ceil(number * scale) / scale);
  if (method == "floor") return Value::Float(std::floor(number * scale) / scale);
  if (method != "common") return in.Fail("the method of round is none of common, ceil, floor");
  if (input.is_integer() && precision >= 0) return Value::Int(input.as_int());
  double rounded = number;
  if (precision >= 0 && std::isfinite(number)) {
    // Correctly rounded from the exact value, ties to even, as Python does it.
    if (!absl::SimpleAtod(absl::StrFormat("%.*f", static_cast<int>(precision), number), &rounded)) {
      rounded = number;
    }
  } else if (std::isfinite(number)) {
    rounded = std::nearbyint(number * scale) / scale;
  }
  return input.is_integer() ? Value::Int(static_cast<int64_t>(rounded)) : Value::Float(rounded);
}

Value ToJson(Interpreter& in, const Value& input, const CallArgs& args) {
  Bound bound(in, "tojson", args, {"ensure_ascii", "indent", "separators", "sort_keys"});
  if (!bound.ok()) return Value();
  JsonStyle style{.ensure_ascii = bound.Truth(0, false), .sort_keys = bound.Truth(3, false)};
  style.has_indent = bound.Given(1);
  if (style.has_indent && bound[1].is_string()) {
    style.indent = bound[1].marked();
  } else if (style.has_indent) {
    const int64_t width = bound.Int(1, 0);
    if (!bound.ok() || width > 100) return in.Fail("the indent of tojson exceeds 100");
    style.indent.text.assign(static_cast<size_t>(std::max<int64_t>(width, 0)), ' ');
  }
  style.item_separator.text = style.has_indent ? "," : ", ";
  style.key_separator.text = ": ";
  if (bound.Given(2)) {
    const std::vector<Value> pair = in.Items(bound[2]);
    if (in.failed()) return Value();
    if (pair.size() != 2 || !pair[0].is_string() || !pair[1].is_string()) {
      return in.Fail("the separators of tojson are not two strings");
    }
    style.item_separator = pair[0].marked();
    style.key_separator = pair[1].marked();
  }
  TextBuilder out;
  AddJson(in, input, style, &out);
  return in.failed() ? Value() : in.NewString(std::move(out));
}

Value Unsupported(Interpreter& in, const Value&, const CallArgs&) {
  return in.Fail("this filter of jinja2 is not supported in chat templates");
}

}  // namespace

FilterBody FindTextFilter(std::string_view name) {
  static const absl::flat_hash_map<std::string_view, FilterBody> filters = {
      {"abs", AbsFilter},
      {"capitalize", ByMethod<'c', 'a', 'p', 'i', 't', 'a', 'l', 'i', 'z', 'e'>},
      {"center", ByMethod<'c', 'e', 'n', 't', 'e', 'r'>},
      {"e", EscapeFilter},
      {"escape", EscapeFilter},
      {"filesizeformat", Unsupported},
      {"float", FloatFilter},
      {"forceescape", ForceEscape},
      {"format", FormatFilter},
      {"indent", IndentFilter},
      {"int", IntFilter},
      {"lower", ByMethod<'l', 'o', 'w', 'e', 'r'>},
      {"pprint", Unsupported},
      {"random", Unsupported},
      {"replace", ReplaceFilter},
      {"round", RoundFilter},
      {"safe", SafeFilter},
      {"string", StringFilter},
      {"striptags", Unsupported},
      {"title", TitleFilter},
      {"tojson", ToJson},
      {"trim", ByMethod<'s', 't', 'r', 'i', 'p'>},
      {"truncate", TruncateFilter},
      {"upper", ByMethod<'u', 'p', 'p', 'e', 'r'>},
      {"urlencode", UrlEncode},
      {"urlize", Unsupported},
      {"wordcount", WordCount},
      {"wordwrap", Unsupported},
      {"xmlattr", Unsupported},
  };
  const auto it = filters.find(name);
  return it == filters.end() ? nullptr : it->second;
}

FilterBody FindFilter(std::string_view name) {
  const FilterBody filter = FindTextFilter(name);
  return filter != nullptr ? filter : FindSequenceFilter(name);
}

}  // namespace mea::jinja
