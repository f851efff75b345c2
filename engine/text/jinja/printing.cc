#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "engine/text/jinja/interpreter.h"
#include "engine/text/jinja/limits.h"
#include "engine/text/jinja/unicode.h"
#include "engine/text/utf8.h"

namespace mea::jinja {
namespace {

constexpr int kMaxReprDepth = 2 * kMaxValueDepth;  // namespaces may hold themselves

// How Python's repr writes a code point inside `quote`; empty: as it is.
std::string EscapeOfRepr(char32_t c, char quote) {
  if (c == static_cast<char32_t>(quote) || c == '\\') return {'\\', static_cast<char>(c)};
  if (c == '\n') return "\\n";
  if (c == '\r') return "\\r";
  if (c == '\t') return "\\t";
  if (IsPyPrintable(c)) return "";
  if (c < 0x100) return absl::StrFormat("\\x%02x", static_cast<unsigned>(c));
  if (c < 0x10000) return absl::StrFormat("\\u%04x", static_cast<unsigned>(c));
  return absl::StrFormat("\\U%08x", static_cast<unsigned>(c));
}

void AddStringRepr(const MarkedText& text, TextBuilder* out) {
  const std::string& bytes = text.text;
  const bool single = bytes.find('\'') != bytes.npos, twice = bytes.find('"') != bytes.npos;
  const char quote = single && !twice ? '"' : '\'';
  const std::string_view mark(&quote, 1);
  out->Add(mark);
  size_t done = 0;
  for (size_t at = 0; at < bytes.size();) {
    const size_t next = at + CodePointSize(bytes[at]);
    if (const std::string escape = EscapeOfRepr(CodePointAt(bytes, at), quote); !escape.empty()) {
      out->Add(text, done, at);
      out->Add(escape, text.HasInput(at, next));
      done = next;
    }
    at = next;
  }
  out->Add(text, done, bytes.size());
  out->Add(mark);
}

}  // namespace

std::string FloatRepr(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char buffer[64];
  const auto [end, error] =
      std::to_chars(buffer, buffer + sizeof(buffer), value,
                    std::chars_format::scientific);  // shortest that reads back
  const std::string text(buffer, end);
  const size_t e = text.find('e');
  const int exponent = std::atoi(text.c_str() + e + 1);
  const bool negative = text[0] == '-';
  std::string digits = text.substr(negative, e - negative);
  digits.erase(std::remove(digits.begin(), digits.end(), '.'), digits.end());
  std::string result = negative ? "-" : "";
  const int num_digits = static_cast<int>(digits.size());
  if (exponent < -4 || exponent >= 16) {
    result += digits.substr(0, 1);
    if (num_digits > 1) absl::StrAppend(&result, ".", digits.substr(1));
    return result + absl::StrFormat("e%c%02d", exponent < 0 ? '-' : '+', std::abs(exponent));
  }
  if (exponent < 0) return result + "0." + std::string(-exponent - 1, '0') + digits;
  if (num_digits <= exponent + 1) {
    return result + digits + std::string(exponent + 1 - num_digits, '0') + ".0";
  }
  return result + digits.substr(0, exponent + 1) + "." + digits.substr(exponent + 1);
}

void Interpreter::AddStr(const Value& value, TextBuilder* out) {
  if (value.is_string()) {
    out->Add(value.marked());
  } else if (!value.undefined()) {
    AddRepr(value, out);
  }
}

void Interpreter::AddRepr(const Value& value, TextBuilder* out) {
  if (!Charge(1)) return;
  const Depth depth(this);
  const auto add_items = [&](std::string_view open, std::string_view close) {
    out->Add(open);
    bool first = true;
    for (const Value& item : value.items()) {
      if (!std::exchange(first, false)) out->Add(", ");
      AddRepr(item, out);
      if (failed() || out->overflown()) return;
    }
    out->Add(close);
  };
  switch (value.kind()) {
    case Kind::kMissing:
    case Kind::kUndefined:
      return out->Add("Undefined");
    case Kind::kNone:
      return out->Add("None");
    case Kind::kBool:
      return out->Add(value.as_bool() ? "True" : "False");
    case Kind::kInt:
      return out->Add(absl::StrCat(value.as_int()));
    case Kind::kBigInt:
      return out->Add(value.text(), true);
    case Kind::kFloat:
      return out->Add(FloatRepr(value.as_float()));
    case Kind::kString:
      if (value.safe()) out->Add("Markup(");
      Charge(static_cast<int64_t>(value.text().size()) / kBytesPerStep);
      AddStringRepr(value.marked(), out);
      if (value.safe()) out->Add(")");
      return;
    case Kind::kList:
      return add_items("[", "]");
    case Kind::kTuple:
      return add_items("(", value.items().size() == 1 ? ",)" : ")");
    case Kind::kView:
      return add_items(absl::StrCat(value.list().name.data(), "(["), "])");
    case Kind::kRange: {
      const auto& items = value.items();
      const int64_t start = items.empty() ? 0 : items[0].as_int();
      const int64_t step = items.size() < 2 ? 1 : items[1].as_int() - start;
      const int64_t stop = items.empty() ? 0 : items.back().as_int() + step;
      out->Add(absl::StrCat("range(", start, ", ", stop));
      if (step != 1) out->Add(absl::StrCat(", ", step));
      return out->Add(")");
    }
    case Kind::kDict: {
      out->Add("{");
      bool first = true;
      for (const auto& [key, item] : value.dict().entries) {
        if (!std::exchange(first, false)) out->Add(", ");
        AddRepr(key, out);
        out->Add(": ");
        AddRepr(item, out);
        if (failed() || out->overflown()) return;
      }
      return out->Add("}");
    }
    case Kind::kNamespace: {
      if (eval_depth_ > kMaxReprDepth) {
        Fail("a namespace that holds itself is printed");
        return;
      }
      out->Add("<Namespace {");
      bool first = true;
      for (const auto& [name, item] : value.name_space().attributes) {
        if (!std::exchange(first, false)) out->Add(", ");
        AddStringRepr({name, {}}, out);
        out->Add(": ");
        AddRepr(item, out);
        if (failed() || out->overflown()) return;
      }
      return out->Add("}>");
    }
    case Kind::kMacro:
      return out->Add(absl::StrCat("<Macro '", value.macro().stmt->text, "'>"));
    case Kind::kLoop:
      return out->Add(absl::StrCat("<LoopContext ", value.loop().index0 + 1, "/",
                                   value.loop().items.size(), ">"));
    default:
      return out->Add(absl::StrCat("<", TypeName(value).data(), " object>"));
  }
}

Value Escaped(Interpreter& interpreter, const Value& value) {
  if (value.safe()) return value;
  const Value text = interpreter.Str(value);
  if (interpreter.failed()) return Value();
  TextBuilder out;
  const std::string& bytes = text.marked().text;
  size_t done = 0;
  for (size_t at = 0; at < bytes.size(); ++at) {
    const char c = bytes[at];
    const std::string_view escape = c == '&'    ? "&amp;"
                                    : c == '<'  ? "&lt;"
                                    : c == '>'  ? "&gt;"
                                    : c == '\'' ? "&#39;"
                                    : c == '"'  ? "&#34;"
                                                : "";
    if (escape.empty()) continue;
    out.Add(text.marked(), done, at);
    out.Add(escape, text.marked().HasInput(at, at + 1));
    done = at + 1;
  }
  out.Add(text.marked(), done, bytes.size());
  return interpreter.NewString(std::move(out), true);
}

}  // namespace mea::jinja
