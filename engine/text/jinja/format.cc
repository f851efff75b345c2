#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "engine/text/jinja/interpreter.h"
#include "engine/text/jinja/unicode.h"
#include "engine/text/utf8.h"

// "%" of strings and str.format.
namespace mea::jinja {
namespace {

constexpr int64_t kMaxWidth = 10'000;
constexpr int kMaxPrecision = 300;

struct FormatSpec {
  std::string fill = " ";
  char align = '\0';  // '<', '>', '^', '='
  char sign = '-';
  bool alternate = false;
  bool grouped = false;  // a comma between thousands
  int64_t width = 0;
  int64_t precision = -1;
  char type = '\0';
};

bool IsAlign(char c) { return c == '<' || c == '>' || c == '^' || c == '='; }

int64_t ReadNumber(std::string_view text, size_t* at) {
  int64_t number = 0;
  while (*at < text.size() && text[*at] >= '0' && text[*at] <= '9') {
    number = std::min<int64_t>(number * 10 + (text[(*at)++] - '0'), kMaxWidth + 1);
  }
  return number;
}

// [[fill]align][sign][#][0][width][,][.precision][type]
bool ParseSpec(std::string_view text, FormatSpec* spec) {
  size_t at = 0;
  if (const size_t first = text.empty() ? 0 : CodePointSize(text[0]);
      first > 0 && first < text.size() && IsAlign(text[first])) {
    spec->fill = std::string(text.substr(0, first));
    spec->align = text[first];
    at = first + 1;
  } else if (!text.empty() && IsAlign(text[0])) {
    spec->align = text[at++];
  }
  const auto is = [&](char c) { return at < text.size() && text[at] == c; };
  if (is('+') || is('-') || is(' ')) spec->sign = text[at++];
  if (is('#')) spec->alternate = true, ++at;
  if (is('0')) {
    ++at;
    if (spec->align == '\0') spec->fill = "0", spec->align = '=';
  }
  spec->width = ReadNumber(text, &at);
  if (is(',') || is('_')) spec->grouped = text[at++] == ',';
  if (is('.')) {
    ++at;
    spec->precision = ReadNumber(text, &at);
  }
  if (at < text.size()) spec->type = text[at++];
  return at == text.size() && spec->width <= kMaxWidth && spec->precision <= kMaxPrecision;
}

// The digits of a number of the type that `spec` names, without sign; empty: not such a type.
std::string Digits(const Value& value, const FormatSpec& spec) {
  char buffer[800];
  const char type = spec.type;
  if (value.is_integer() &&
      (type == 'd' || type == 'x' || type == 'X' || type == 'o' || type == 'b' || type == '\0')) {
    uint64_t magnitude =
        value.as_int() < 0 ? uint64_t{0} - uint64_t(value.as_int()) : uint64_t(value.as_int());
    const unsigned base = type == 'x' || type == 'X' ? 16 : type == 'o' ? 8 : type == 'b' ? 2 : 10;
    const std::string_view alphabet = type == 'X' ? "0123456789ABCDEF" : "0123456789abcdef";
    std::string digits;
    do {
      digits += alphabet[magnitude % base];
      magnitude /= base;
    } while (magnitude > 0);
    std::reverse(digits.begin(), digits.end());
    if (spec.alternate && base != 10) digits = std::string("0") + type + digits;
    return digits;
  }
  double number = std::abs(value.as_float());
  const int precision = spec.precision < 0 ? 6 : static_cast<int>(spec.precision);
  if (type == '\0' && spec.precision < 0) return FloatRepr(number);
  const std::string_view known = "eEfFgG%";
  if (type != '\0' && known.find(type) == known.npos) return "";
  const bool percent = type == '%';
  if (percent) number *= 100;
  const char format[] = {'%', '.', '*', percent ? 'f' : type == '\0' ? 'g' : type, '\0'};
  std::snprintf(buffer, sizeof(buffer), format, precision, number);
  return buffer + std::string(percent ? "%" : "");
}

void Group(std::string* digits) {
  size_t end = std::min(digits->find_first_not_of("0123456789"), digits->size());
  while (end > 3) digits->insert(end -= 3, ",");
}

void Pad(const MarkedText& prefix, const MarkedText& body, const FormatSpec& spec, char align,
         TextBuilder* out) {
  const auto count = [](std::string_view text) {
    return std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; });
  };
  const int64_t missing = std::max<int64_t>(0, spec.width - count(prefix.text) - count(body.text));
  const int64_t before = align == '<' ? 0 : align == '^' ? missing / 2 : missing;
  const auto fill = [&](int64_t times) {
    for (int64_t i = 0; i < times; ++i) out->Add(spec.fill);
  };
  if (align == '=') out->Add(prefix);
  fill(before);
  if (align != '=') out->Add(prefix);
  out->Add(body);
  fill(missing - before);
}

void AddFormatted(Interpreter& in, const Value& value, const FormatSpec& spec, TextBuilder* out) {
  if (value.is_number() && !(value.Is(Kind::kBool) && spec.type == '\0')) {
    std::string digits = Digits(value, spec);
    if (digits.empty()) {
      in.Fail(absl::StrCat("the format type \"", std::string(1, spec.type), "\" does not fit a ",
                           TypeName(value).data()));
      return;
    }
    if (spec.grouped) Group(&digits);
    const bool negative = value.is_integer() ? value.as_int() < 0 : std::signbit(value.as_float());
    const std::string sign = negative ? "-" : spec.sign == '-' ? "" : std::string(1, spec.sign);
    return Pad({sign, {}}, {digits, {}}, spec, spec.align == '\0' ? '>' : spec.align, out);
  }
  if ((spec.type != '\0' && spec.type != 's') || spec.align == '=') {
    if (value.undefined()) {
      in.FailUndefined(value);
    } else {
      in.Fail(absl::StrCat("a format does not fit a ", TypeName(value).data()));
    }
    return;
  }
  Value text = in.Str(value);
  if (in.failed()) return;
  if (spec.precision >= 0 && spec.precision < text.string().length) {
    text = in.Slice(text, 0, ByteOffset(text.text(), spec.precision, false));
    if (in.failed()) return;
  }
  Pad({}, text.marked(), spec, spec.align == '\0' ? '<' : spec.align, out);
}

// One conversion of "%", which begins after the sign and the name.
void AddConversion(Interpreter& in, std::string_view format, size_t* at, const Value& value,
                   TextBuilder* out) {
  FormatSpec spec;
  bool left = false, zero = false;
  for (; *at < format.size(); ++*at) {
    const char c = format[*at];
    left |= c == '-';
    zero |= c == '0';
    spec.alternate |= c == '#';
    if (c == '+' || c == ' ') spec.sign = c;
    if (std::string_view("-0#+ ").find(c) == std::string_view::npos) break;
  }
  spec.width = ReadNumber(format, at);
  if (*at < format.size() && format[*at] == '.') {
    ++*at;
    spec.precision = ReadNumber(format, at);
  }
  const char type = *at < format.size() ? format[(*at)++] : '\0';
  if (spec.width > kMaxWidth || spec.precision > kMaxPrecision) {
    in.Fail("a width or precision of a format is too large");
    return;
  }
  spec.align = left ? '<' : '>';
  spec.type = type;
  if (type == 's' || type == 'r' || type == 'a') {
    spec.type = 's';
    if (type == 's') return AddFormatted(in, in.Str(value), spec, out);
    TextBuilder repr;
    in.AddRepr(value, &repr);
    return AddFormatted(in, in.NewString(std::move(repr)), spec, out);
  }
  if (type == 'c' && value.is_string()) {
    spec.type = 's';
    return AddFormatted(in, value, spec, out);
  }
  if (value.undefined()) {
    in.FailUndefined(value);
    return;
  }
  const bool integral = type == 'd' || type == 'i' || type == 'u';
  const bool known = integral || std::string_view("xXoeEfFgG").find(type) != std::string_view::npos;
  if (type == '\0' || !known || !value.is_number()) {
    in.Fail(absl::StrCat("the format %", std::string(type != '\0', type), " does not fit a ",
                         TypeName(value).data()));
    return;
  }
  if (zero && !left) spec.fill = "0", spec.align = '=';
  if (!integral) {
    const bool whole = type == 'x' || type == 'X' || type == 'o';
    if (whole && !value.is_integer()) {
      in.Fail("an integer format is given a float");
      return;
    }
    return AddFormatted(
        in, value.is_integer() && !whole ? Value::Float(value.as_float()) : Value(value), spec,
        out);
  }
  spec.type = 'd';
  const double whole = std::trunc(value.as_float());
  if (value.Is(Kind::kFloat) && !(std::abs(whole) < 9.2e18)) {
    in.Fail("a float does not fit an integer format");
    return;
  }
  AddFormatted(in, Value::Int(value.is_integer() ? value.as_int() : static_cast<int64_t>(whole)),
               spec, out);
}

// The replacement fields of str.format.
class BraceFormatter {
 public:
  BraceFormatter(Interpreter* in, const MarkedText* format, const CallArgs* args, bool safe)
      : in_(*in), format_(*format), args_(*args), safe_(safe) {}

  void Write(TextBuilder* out) {
    const std::string_view text = format_.text;
    for (size_t at = 0; at < text.size() && !in_.failed();) {
      const size_t brace = std::min(text.find_first_of("{}", at), text.size());
      out->Add(format_, at, brace);
      at = brace;
      if (at == text.size()) return;
      if (at + 1 < text.size() && text[at + 1] == text[at]) {
        out->Add(format_, at, at + 1);
        at += 2;
        continue;
      }
      const size_t end = text[at] == '{' ? text.find('}', at) : text.npos;
      if (end == text.npos) {
        in_.Fail("a brace of a format stands alone");
        return;
      }
      Field(text.substr(at + 1, end - at - 1), out);
      at = end + 1;
    }
  }

 private:
  void Field(std::string_view field, TextBuilder* out) {
    const size_t colon = std::min(field.find(':'), field.size());
    FormatSpec spec;
    if (!ParseSpec(field.substr(std::min(colon + 1, field.size())), &spec)) {
      in_.Fail(absl::StrCat("the format \"", std::string(field), "\" is not understood"));
      return;
    }
    std::string_view name = field.substr(0, colon);
    char conversion = '\0';
    if (name.size() >= 2 && name[name.size() - 2] == '!') {
      conversion = name.back();
      name.remove_suffix(2);
    }
    Value value = Lookup(name);
    if (in_.failed()) return;
    if (conversion == 'r' || conversion == 'a') {
      TextBuilder repr;
      in_.AddRepr(value, &repr);
      value = in_.NewString(std::move(repr));
    } else if (conversion == 's') {
      value = in_.Str(value);
    }
    if (safe_) value = Escaped(in_, value);
    if (!in_.failed()) AddFormatted(in_, value, spec, out);
  }

  // "0", "name", "name.attribute[key]"; empty: the next argument.
  Value Lookup(std::string_view name) {
    const size_t end = std::min(name.find_first_of(".["), name.size());
    const std::string first(name.substr(0, end));
    Value value = Value::Missing();
    int index = 0;
    if (first.empty()) {
      index = next_++;
    } else if (!absl::SimpleAtoi(first, &index)) {
      index = -1;
      for (const auto& [key, named] : args_.named) {
        if (key == first) value = named;
      }
    }
    if (index >= 0 && index < static_cast<int>(args_.positional.size())) {
      value = args_.positional[index];
    }
    if (value.missing()) return in_.Fail(absl::StrCat("a format has no value for \"", first, "\""));
    for (std::string_view rest = name.substr(end); !rest.empty() && !in_.failed();) {
      const bool item = rest[0] == '[';
      const size_t stop =
          item ? rest.find(']') : std::min(rest.find_first_of(".[", 1), rest.size());
      if (stop == rest.npos || stop < 2) return in_.Fail("a field of a format is not understood");
      const std::string key(rest.substr(1, stop - 1));
      int64_t number;
      const bool digits = item && absl::SimpleAtoi(key, &number);
      value = item ? in_.Item(value, digits ? Value::Int(number) : in_.NewString(key))
                   : in_.Attribute(value, key);
      rest.remove_prefix(item ? stop + 1 : stop);
    }
    return value;
  }

  Interpreter& in_;
  const MarkedText& format_;
  const CallArgs& args_;
  const bool safe_;
  int next_ = 0;
};

}  // namespace

Value FormatPercent(Interpreter& interpreter, const Value& format, const Value& args) {
  const std::string_view text = format.text();
  const MarkedText& marked = format.marked();
  TextBuilder out;
  size_t used = 0;
  const bool tuple = args.Is(Kind::kTuple);
  bool by_name = false;
  for (size_t at = 0; at < text.size() && !interpreter.failed();) {
    const size_t sign = std::min(text.find('%', at), text.size());
    out.Add(marked, at, sign);
    at = sign + 1;
    if (sign == text.size()) break;
    if (at < text.size() && text[at] == '%') {
      out.Add(marked, at, at + 1);
      ++at;
      continue;
    }
    Value value;
    if (at < text.size() && text[at] == '(') {
      const size_t close = text.find(')', at);
      if (close == text.npos || !args.is_dict()) {
        return interpreter.Fail("%(name) needs a dict and a )");
      }
      const Value* found = args.dict().Find(text.substr(at + 1, close - at - 1));
      if (found == nullptr) return interpreter.Fail("% has no value for a name");
      value = *found;
      at = close + 1;
      by_name = true;
    } else if (tuple ? used < args.items().size() : used == 0) {
      value = tuple ? args.items()[used] : args;
      ++used;
    } else {
      return interpreter.Fail("% has too few values for its format");
    }
    if (format.safe()) value = value.is_number() ? value : Escaped(interpreter, value);
    if (interpreter.failed()) return Value();
    AddConversion(interpreter, text, &at, value, &out);
  }
  const bool all_used = tuple ? used == args.items().size()
                              : used == 1 || by_name || args.is_dict() || args.Is(Kind::kList) ||
                                    args.Is(Kind::kRange) || args.undefined();
  if (!interpreter.failed() && !all_used) {
    return interpreter.Fail("% has more values than its format uses");
  }
  return interpreter.NewString(std::move(out), format.safe());
}

Value FormatBraces(Interpreter& interpreter, const Value& format, const CallArgs& args) {
  TextBuilder out;
  BraceFormatter(&interpreter, &format.marked(), &args, format.safe()).Write(&out);
  return interpreter.NewString(std::move(out), format.safe());
}

}  // namespace mea::jinja
