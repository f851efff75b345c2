#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include <algorithm>
#include <cmath>

#include "engine/text/jinja/interpreter.h"
#include "engine/text/jinja/limits.h"
#include "engine/text/utf8.h"

namespace mea::jinja {
namespace {

std::string JsonEscapeOf(char32_t c, bool ensure_ascii) {
  switch (c) {
    case '"':
      return "\\\"";
    case '\\':
      return "\\\\";
    case '\n':
      return "\\n";
    case '\r':
      return "\\r";
    case '\t':
      return "\\t";
    case '\b':
      return "\\b";
    case '\f':
      return "\\f";
    default:
      break;
  }
  const auto code = static_cast<unsigned>(c);
  if (c >= 0x20 && (c < 0x7f || !ensure_ascii)) return "";
  if (c < 0x10000) return absl::StrFormat("\\u%04x", code);
  return absl::StrFormat("\\u%04x\\u%04x", 0xd800 + ((code - 0x10000) >> 10),
                         0xdc00 + ((code - 0x10000) & 0x3ff));
}

class JsonWriter {
 public:
  JsonWriter(Interpreter* interpreter, const JsonStyle* style, TextBuilder* out)
      : in_(*interpreter), style_(*style), out_(*out) {}

  void Write(const Value& value, int level) {
    if (!in_.Charge(1) || out_.overflown()) return;
    if (level > kMaxValueDepth) {
      in_.Fail(absl::StrCat("tojson is nested more than ", kMaxValueDepth, " deep"));
      return;
    }
    switch (value.kind()) {
      case Kind::kString:
        return String(value.marked());
      case Kind::kDict:
        return Dict(value.dict(), level);
      case Kind::kList:
      case Kind::kTuple:
        return List(value.items(), level);
      default:
        if (const std::string text = Scalar(value); !text.empty()) {
          out_.Add(text, value.Is(Kind::kBigInt));
        } else {
          in_.Fail(absl::StrCat("tojson cannot write a ", TypeName(value).data()));
        }
    }
  }

 private:
  // A scalar as JSON; empty for everything else.
  static std::string Scalar(const Value& value) {
    switch (value.kind()) {
      case Kind::kNone:
        return "null";
      case Kind::kBool:
        return value.as_bool() ? "true" : "false";
      case Kind::kInt:
        return absl::StrCat(value.as_int());
      case Kind::kBigInt:
        return std::string(value.text());
      case Kind::kFloat:
        if (std::isnan(value.as_float())) return "NaN";
        if (std::isinf(value.as_float())) return value.as_float() < 0 ? "-Infinity" : "Infinity";
        return FloatRepr(value.as_float());
      default:
        return "";
    }
  }

  void String(const MarkedText& text) {
    out_.Add("\"");
    const std::string& bytes = text.text;
    size_t done = 0;
    for (size_t at = 0; at < bytes.size();) {
      const size_t next = at + CodePointSize(bytes[at]);
      const std::string escape = JsonEscapeOf(CodePointAt(bytes, at), style_.ensure_ascii);
      if (!escape.empty()) {
        out_.Add(text, done, at);
        out_.Add(escape, text.HasInput(at, next));
        done = next;
      }
      at = next;
    }
    out_.Add(text, done, bytes.size());
    out_.Add("\"");
    in_.Charge(static_cast<int64_t>(bytes.size()) / kBytesPerStep);
  }

  void NewLine(int level) {
    if (!style_.has_indent) return;
    out_.Add("\n");
    for (int i = 0; i < level; ++i) out_.Add(style_.indent);
  }

  void List(const std::vector<Value>& items, int level) {
    if (items.empty()) return out_.Add("[]");
    out_.Add("[");
    for (size_t i = 0; i < items.size() && !in_.failed(); ++i) {
      if (i > 0) out_.Add(style_.item_separator);
      NewLine(level + 1);
      Write(items[i], level + 1);
    }
    NewLine(level);
    out_.Add("]");
  }

  void Dict(const DictObject& dict, int level) {
    std::vector<const DictObject::Entry*> entries;
    for (const auto& entry : dict.entries) entries.push_back(&entry);
    if (style_.sort_keys) {
      std::stable_sort(entries.begin(), entries.end(),
                       [&](const auto* a, const auto* b) { return in_.Less(a->key, b->key); });
    }
    if (entries.empty()) return out_.Add("{}");
    out_.Add("{");
    bool first = true;
    for (const auto* entry : entries) {
      if (in_.failed()) return;
      if (!std::exchange(first, false)) out_.Add(style_.item_separator);
      NewLine(level + 1);
      if (entry->key.is_string()) {
        String(entry->key.marked());
      } else if (const std::string text = Scalar(entry->key); !text.empty()) {
        out_.Add(absl::StrCat("\"", text, "\""));
      } else {
        in_.Fail(absl::StrCat("tojson cannot write a ", TypeName(entry->key).data(), " as a key"));
      }
      out_.Add(style_.key_separator);
      Write(entry->value, level + 1);
    }
    NewLine(level);
    out_.Add("}");
  }

  Interpreter& in_;
  const JsonStyle& style_;
  TextBuilder& out_;
};

}  // namespace

void AddJson(Interpreter& interpreter, const Value& value, const JsonStyle& style,
             TextBuilder* out) {
  JsonWriter(&interpreter, &style, out).Write(value, 0);
}

}  // namespace mea::jinja
