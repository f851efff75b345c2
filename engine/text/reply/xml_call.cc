#include "engine/text/reply/xml_call.h"

namespace mea::reply {

const XmlCallShape kQwenXml = {.function_open = "<function=",
                               .name_end = ">",
                               .key_open = "<parameter=",
                               .key_end = ">",
                               .value_end = "</parameter>",
                               .close = "</function>",
                               .trim_newline = true};
const XmlCallShape kGlmXml = {.key_open = "<arg_key>",
                              .key_end = "</arg_key>",
                              .value_open = "<arg_value>",
                              .value_end = "</arg_value>",
                              .close = "</tool_call>"};

XmlCallReader::XmlCallReader(const XmlCallShape& shape, const ParameterTypes* types,
                             bool in_function)
    : shape_(shape),
      types_(types),
      value_end_((shape.trim_newline ? "\n" : "") + std::string(shape.value_end)),
      at_(in_function || shape.function_open.empty() ? At::kName : At::kFunction) {}

CallStep XmlCallReader::Read(char c, CallSink& sink) {
  switch (at_) {
    case At::kFunction:
      if (tag_.empty() && IsBlank(c)) return CallStep::kMore;
      tag_.push_back(c);
      if (!shape_.function_open.starts_with(tag_)) return CallStep::kBroken;
      if (tag_ == shape_.function_open) {
        tag_.clear();
        at_ = At::kName;
      }
      return CallStep::kMore;
    case At::kName:
      if (shape_.name_end.empty()) {
        if (name_.empty() && IsBlank(c)) return CallStep::kMore;
        if (IsBlank(c) || c == '<') {
          const CallStep step = EndName();
          return step == CallStep::kMore ? Read(c, sink) : step;
        }
      }
      if (name_.size() == kMaxNameBytes) return CallStep::kBroken;
      name_.push_back(c);
      if (shape_.name_end.empty() || !name_.ends_with(shape_.name_end)) return CallStep::kMore;
      name_.resize(name_.size() - shape_.name_end.size());
      return EndName();
    case At::kBetween:
    case At::kBeforeValue:
      return ReadTag(c, sink);
    case At::kKey:
      if (key_.size() == kMaxNameBytes) return CallStep::kBroken;
      key_.push_back(c);
      if (!key_.ends_with(shape_.key_end)) return CallStep::kMore;
      key_.resize(key_.size() - shape_.key_end.size());
      key_ = Trimmed(key_);
      if (!shape_.value_open.empty()) {
        at_ = At::kBeforeValue;
        return CallStep::kMore;
      }
      return BeginValue(sink);
    case At::kValue:
      return ReadValue(c, sink);
  }
  return CallStep::kBroken;
}

CallStep XmlCallReader::EndName() {
  name_ = Trimmed(name_);
  at_ = At::kBetween;
  return IsCallName(name_) ? CallStep::kMore : CallStep::kBroken;
}

CallStep XmlCallReader::ReadTag(char c, CallSink& sink) {
  if (tag_.empty() && IsBlank(c)) return CallStep::kMore;
  tag_.push_back(c);
  if (at_ == At::kBeforeValue) {
    if (!shape_.value_open.starts_with(tag_)) return CallStep::kBroken;
    if (tag_ != shape_.value_open) return CallStep::kMore;
    tag_.clear();
    return BeginValue(sink);
  }
  if (!shape_.key_open.starts_with(tag_) && !shape_.close.starts_with(tag_)) {
    return CallStep::kBroken;
  }
  const bool closes = tag_ == shape_.close;
  if (!closes && tag_ != shape_.key_open) return CallStep::kMore;
  tag_.clear();
  if (!sink.in_call()) {
    sink.Begin(name_);
    sink.Arguments("{");
  }
  if (closes) {
    sink.Arguments("}");
    sink.End();
    return CallStep::kDone;
  }
  key_.clear();
  at_ = At::kKey;
  return CallStep::kMore;
}

CallStep XmlCallReader::BeginValue(CallSink& sink) {
  value_types_ = types_->Of(name_, key_);
  std::string text = any_ ? ", \"" : "\"";
  AppendJsonEscaped(key_, &text);
  text += "\": ";
  if (value_types_ == ParameterTypes::kString) text += '"';
  sink.Arguments(text);
  any_ = true;
  value_.clear();
  held_.clear();
  at_value_start_ = true;
  at_ = At::kValue;
  return CallStep::kMore;
}

CallStep XmlCallReader::ReadValue(char c, CallSink& sink) {
  if (at_value_start_ && c == '\n' && shape_.trim_newline) {
    at_value_start_ = false;
    return CallStep::kMore;
  }
  at_value_start_ = false;
  held_.push_back(c);
  while (!held_.empty()) {
    if (held_ == value_end_ || held_ == shape_.value_end) {
      EndValue(sink);
      return CallStep::kMore;
    }
    if (value_end_.starts_with(held_) || shape_.value_end.starts_with(held_)) break;
    ValueByte(held_[0], sink);
    held_.erase(0, 1);
  }
  return value_.size() > kMaxHeldBytes ? CallStep::kBroken : CallStep::kMore;
}

void XmlCallReader::ValueByte(char c, CallSink& sink) {
  if (value_types_ != ParameterTypes::kString) {
    value_.push_back(c);
    return;
  }
  std::string escaped;
  AppendJsonEscaped({&c, 1}, &escaped);
  sink.Arguments(escaped);
}

void XmlCallReader::EndValue(CallSink& sink) {
  sink.Arguments(value_types_ == ParameterTypes::kString ? "\"" : JsonOfText(value_, value_types_));
  held_.clear();
  at_ = At::kBetween;
}

void XmlCallReader::Finish(CallSink& sink) {
  if (!sink.in_call() || at_ != At::kValue) return;
  // The arguments end like JSON that was cut off.
  if (value_types_ == ParameterTypes::kString) {
    for (const char c : held_) ValueByte(c, sink);
  } else {
    sink.Arguments(value_ + held_);
  }
}

}  // namespace mea::reply
