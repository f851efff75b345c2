#include "engine/text/reply/json_call.h"

#include <nlohmann/json.hpp>

namespace mea::reply {
namespace {

// The text of a JSON string; empty if `text` is not one.
std::string DecodeJsonString(const std::string& text) {
  const auto value = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  return value.is_string() ? value.get<std::string>() : "";
}

bool IsJsonObject(std::string_view text) {
  // No value is built: objects can be deep.
  text = Trimmed(text);
  return text.starts_with('{') && nlohmann::json::accept(text);
}

}  // namespace

CallStep JsonSpan::Read(char c) {
  switch (at_) {
    case At::kStart:
      if (c == '{' || c == '[') {
        depth_ = 1;
        at_ = At::kBrackets;
      } else if (c == '"') {
        at_ = At::kString;
      } else if (c == '-' || (c >= '0' && c <= '9') || c == 't' || c == 'f' || c == 'n') {
        at_ = At::kScalar;
      } else {
        return CallStep::kBroken;
      }
      return CallStep::kMore;
    case At::kString:
      if (c == '\\') {
        at_ = At::kEscape;
      } else if (c == '"') {
        at_ = At::kBrackets;
        if (depth_ == 0) return CallStep::kDone;
      }
      return CallStep::kMore;
    case At::kEscape:
      at_ = At::kString;
      return CallStep::kMore;
    case At::kBrackets:
      if (c == '"') {
        at_ = At::kString;
      } else if (c == '{' || c == '[') {
        ++depth_;
      } else if (c == '}' || c == ']') {
        if (--depth_ == 0) return CallStep::kDone;
      }
      return CallStep::kMore;
    case At::kScalar:
      if (c == ',' || c == '}' || c == ']' || IsBlank(c)) return CallStep::kEnded;
      if (c == '+' || c == '-' || c == '.' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
          c == 'E') {
        return CallStep::kMore;
      }
      return CallStep::kBroken;
  }
  return CallStep::kBroken;
}

CallStep JsonCallReader::Read(char c, CallSink& sink) {
  if (at_ == At::kInKey) return ReadKey(c);
  if (at_ == At::kInValue) return ReadValue(c, sink);
  if (IsBlank(c)) return CallStep::kMore;
  switch (at_) {
    case At::kOpen:
      if (c != '{') return CallStep::kBroken;
      at_ = At::kFirstKey;
      return CallStep::kMore;
    case At::kFirstKey:
    case At::kNextKey:
      if (c == '}' && at_ == At::kFirstKey) return Close(sink);
      if (c != '"') return CallStep::kBroken;
      key_.clear();
      escaped_ = false;
      at_ = At::kInKey;
      return CallStep::kMore;
    case At::kColon:
      if (c != ':') return CallStep::kBroken;
      at_ = At::kBeforeValue;
      return CallStep::kMore;
    case At::kBeforeValue:
      return BeginValue(c, sink);
    case At::kAfterValue:
      if (c == '}') return Close(sink);
      if (c != ',') return CallStep::kBroken;
      at_ = At::kNextKey;
      return CallStep::kMore;
    default:
      return CallStep::kBroken;
  }
}

JsonCallReader::Role JsonCallReader::RoleOf(const std::string& key) const {
  if (shape_.key_is_name) return has_arguments_ ? Role::kOther : Role::kArguments;
  if (key == "name" || key == "tool_name") return name_.empty() ? Role::kName : Role::kOther;
  if (key == "arguments" || key == "parameters") {
    return has_arguments_ ? Role::kOther : Role::kArguments;
  }
  return Role::kOther;
}

CallStep JsonCallReader::ReadKey(char c) {
  if (c == '"' && !escaped_) {
    role_ = RoleOf(key_);
    if (shape_.key_is_name && role_ == Role::kArguments) {
      if (!IsCallName(key_)) return CallStep::kBroken;
      name_ = key_;
    }
    if (shape_.known_keys_only && role_ == Role::kOther && key_ != "type" && key_ != "id") {
      return CallStep::kBroken;
    }
    at_ = At::kColon;
    return CallStep::kMore;
  }
  if (key_.size() == kMaxNameBytes) return CallStep::kBroken;
  escaped_ = c == '\\' && !escaped_;
  key_.push_back(c);
  return CallStep::kMore;
}

CallStep JsonCallReader::BeginValue(char c, CallSink& sink) {
  span_ = JsonSpan();
  value_.clear();
  const bool fits = role_ == Role::kOther || c == '"' || (role_ == Role::kArguments && c == '{');
  if (!fits) return CallStep::kBroken;
  at_ = At::kInValue;
  streaming_ = role_ == Role::kArguments && c == '{' && !name_.empty();
  if (streaming_) {
    has_arguments_ = true;
    sink.Begin(name_);
  }
  return ReadValue(c, sink);
}

CallStep JsonCallReader::ReadValue(char c, CallSink& sink) {
  const CallStep step = span_.Read(c);
  if (step == CallStep::kBroken) return step;
  if (step != CallStep::kEnded) {
    if (streaming_) {
      sink.Arguments({&c, 1});
    } else if (role_ != Role::kOther) {
      value_.push_back(c);
    }
  }
  if (step == CallStep::kMore) return step;
  if (const CallStep end = EndValue(sink); end != CallStep::kMore) return end;
  return step == CallStep::kEnded ? Read(c, sink) : CallStep::kMore;
}

CallStep JsonCallReader::EndValue(CallSink& sink) {
  at_ = At::kAfterValue;
  if (streaming_ || role_ == Role::kOther) return CallStep::kMore;
  if (role_ == Role::kName) {
    name_ = DecodeJsonString(value_);
    const bool valid = !name_.empty() && name_.size() <= kMaxNameBytes;
    if (valid && has_arguments_) {
      sink.Begin(name_);
      sink.Arguments(arguments_);
    }
    return valid ? CallStep::kMore : CallStep::kBroken;
  }
  arguments_ = value_.starts_with('"') ? DecodeJsonString(value_) : value_;
  if (value_.starts_with('"') && !IsJsonObject(arguments_)) return CallStep::kBroken;
  has_arguments_ = true;
  if (!name_.empty()) {
    sink.Begin(name_);
    sink.Arguments(arguments_);
  }
  return CallStep::kMore;
}

CallStep JsonCallReader::Close(CallSink& sink) {
  if (!sink.in_call()) {
    // A call would have begun with the name and arguments.
    if (name_.empty() || !shape_.arguments_optional || shape_.key_is_name) return CallStep::kBroken;
    sink.Begin(name_);
    sink.Arguments("{}");
  }
  sink.End();
  return CallStep::kDone;
}

CallStep JsonCallListReader::Read(char c, CallSink& sink) {
  if (at_ == At::kInCall) {
    const CallStep step = call_.Read(c, sink);
    if (step != CallStep::kDone) return step;
    at_ = At::kAfterCall;
    return CallStep::kMore;
  }
  if (IsBlank(c)) return CallStep::kMore;
  switch (at_) {
    case At::kOpen:
      at_ = At::kBeforeCall;
      return c == '[' ? CallStep::kMore : CallStep::kBroken;
    case At::kBeforeCall:
      if (c != '{') return CallStep::kBroken;
      call_ = JsonCallReader(shape_);
      at_ = At::kInCall;
      return call_.Read(c, sink);
    case At::kAfterCall:
      if (c == ']') return CallStep::kDone;
      at_ = At::kBeforeCall;
      return c == ',' ? CallStep::kMore : CallStep::kBroken;
    case At::kInCall:
      break;
  }
  return CallStep::kBroken;
}

}  // namespace mea::reply
