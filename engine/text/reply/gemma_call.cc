#include "engine/text/reply/gemma_call.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace mea::reply {
namespace {

constexpr std::string_view kCallPrefix = "call:";
constexpr std::string_view kStringMark = "<|\"|>";
constexpr int kMaxGemmaDepth = 64;

class GemmaValues {
 public:
  explicit GemmaValues(std::string_view text) : text_(text) {}

  bool Object(std::string* json, int depth) {
    return Items('{', '}', json, depth, [&](std::string* out) {
      const size_t colon = text_.find(':', at_);
      std::string key;
      if (text_.substr(at_).starts_with(kStringMark)) {
        if (!String(&key) || at_ == text_.size() || text_[at_] != ':') return false;
        *out += key;
      } else {
        if (colon == text_.npos || colon - at_ > kMaxNameBytes) return false;
        *out += '"';
        AppendJsonEscaped(Trimmed(text_.substr(at_, colon - at_)), out);
        *out += '"';
        at_ = colon;
      }
      ++at_;
      *out += ": ";
      return Value(out, depth + 1);
    });
  }

  bool at_end() const { return at_ == text_.size(); }

 private:
  template <typename Item>
  bool Items(char open, char close, std::string* json, int depth, const Item& item) {
    if (depth > kMaxGemmaDepth || at_end() || text_[at_] != open) return false;
    ++at_;
    *json += open;
    SkipBlanks();
    for (bool first = true; !at_end() && text_[at_] != close; first = false) {
      if (!first) *json += ", ";
      if (!item(json)) return false;
      SkipBlanks();
      if (!at_end() && text_[at_] == ',') {
        ++at_;
      } else if (at_end() || text_[at_] != close) {
        return false;
      }
      SkipBlanks();
    }
    if (at_end()) return false;
    ++at_;
    *json += close;
    return true;
  }

  bool Value(std::string* json, int depth) {
    SkipBlanks();
    if (at_end()) return false;
    if (text_.substr(at_).starts_with(kStringMark)) return String(json);
    if (text_[at_] == '{') return Object(json, depth);
    if (text_[at_] == '[') {
      return Items('[', ']', json, depth, [&](std::string* out) { return Value(out, depth + 1); });
    }
    const size_t end = std::min(text_.find_first_of(",]}", at_), text_.size());
    const std::string_view word = Trimmed(text_.substr(at_, end - at_));
    at_ = end;
    if (word.empty()) return false;
    if (nlohmann::json::accept(word)) {
      *json += word;
    } else {
      *json += '"';
      AppendJsonEscaped(word, json);
      *json += '"';
    }
    return true;
  }

  bool String(std::string* json) {
    at_ += kStringMark.size();
    const size_t end = text_.find(kStringMark, at_);
    if (end == text_.npos) return false;
    *json += '"';
    AppendJsonEscaped(text_.substr(at_, end - at_), json);
    *json += '"';
    at_ = end + kStringMark.size();
    return true;
  }

  void SkipBlanks() {
    while (!at_end() && IsBlank(text_[at_])) ++at_;
  }

  std::string_view text_;
  size_t at_ = 0;
};

}  // namespace

std::optional<std::string> GemmaObjectToJson(std::string_view text) {
  std::string json;
  GemmaValues values(text);
  if (!values.Object(&json, 0) || !values.at_end()) return std::nullopt;
  return json;
}

CallStep GemmaCallReader::Read(char c, CallSink& sink) {
  if (depth_ == 0 && c != '{') {
    name_.push_back(c);
    const std::string_view name = name_;
    const bool fits = name.size() <= kCallPrefix.size()
                          ? kCallPrefix.starts_with(name)
                          : IsCallName(name.substr(kCallPrefix.size()));
    return fits ? CallStep::kMore : CallStep::kBroken;
  }
  if (name_.size() <= kCallPrefix.size()) return CallStep::kBroken;
  object_.push_back(c);
  if (object_.ends_with(kStringMark)) {
    in_string_ = !in_string_;
  } else if (!in_string_ && (c == '{' || c == '[')) {
    ++depth_;
  } else if (!in_string_ && (c == '}' || c == ']') && --depth_ == 0) {
    const auto json = GemmaObjectToJson(object_);
    if (!json) return CallStep::kBroken;
    sink.Begin(name_.substr(kCallPrefix.size()));
    sink.Arguments(*json);
    sink.End();
    return CallStep::kDone;
  }
  return CallStep::kMore;
}

}  // namespace mea::reply
