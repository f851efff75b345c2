#include "engine/text/reply/named_call.h"

namespace mea::reply {
namespace {

constexpr size_t kMaxHeaderBytes = 2 * kMaxNameBytes;
constexpr std::string_view kToolSep = "<｜tool▁sep｜>";
constexpr std::string_view kFence = "\n```";

std::string_view HeaderEnd(NamedCallStyle style) {
  switch (style) {
    case NamedCallStyle::kDeepSeekV3:
      return "\n```json\n";
    case NamedCallStyle::kDeepSeekV31:
      return kToolSep;
    case NamedCallStyle::kKimiK2:
      return "<|tool_call_argument_begin|>";
    case NamedCallStyle::kFunctionary:
      return ">";
    case NamedCallStyle::kMistral:
      return "[ARGS]";
  }
  return "";
}

bool IsDigits(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == text.npos;
}

}  // namespace

CallStep NamedCallReader::EndHeader(std::string_view header) {
  header = Trimmed(header);
  std::string_view name = header;
  switch (style_) {
    case NamedCallStyle::kDeepSeekV3: {
      const size_t sep = header.find(kToolSep);
      if (sep == header.npos) return CallStep::kBroken;
      name = header.substr(sep + kToolSep.size());
      break;
    }
    case NamedCallStyle::kKimiK2: {
      if (name.starts_with("functions.")) name.remove_prefix(10);
      const size_t colon = name.rfind(':');
      if (colon != name.npos && IsDigits(name.substr(colon + 1))) {
        name = name.substr(0, colon);
        id_ = header;
      }
      break;
    }
    case NamedCallStyle::kMistral: {
      constexpr std::string_view kCallId = "[CALL_ID]";
      const size_t mark = header.find(kCallId);
      if (mark == header.npos) break;
      name = header.substr(0, mark);
      const std::string_view id = Trimmed(header.substr(mark + kCallId.size()));
      if (IsCallName(id)) id_ = id;
      break;
    }
    case NamedCallStyle::kDeepSeekV31:
    case NamedCallStyle::kFunctionary:
      break;
  }
  name = Trimmed(name);
  if (!IsCallName(name)) return CallStep::kBroken;
  name_ = name;
  at_ = At::kBeforeArguments;
  return CallStep::kMore;
}

CallStep NamedCallReader::Read(char c, CallSink& sink) {
  switch (at_) {
    case At::kHeader: {
      if (c == '{' && style_ == NamedCallStyle::kMistral) {
        const CallStep step = EndHeader(header_);
        return step == CallStep::kMore ? Read(c, sink) : step;
      }
      if (header_.size() == kMaxHeaderBytes) return CallStep::kBroken;
      header_.push_back(c);
      const std::string_view end = HeaderEnd(style_);
      if (!header_.ends_with(end)) return CallStep::kMore;
      return EndHeader(std::string_view(header_).substr(0, header_.size() - end.size()));
    }
    case At::kBeforeArguments:
      if (IsBlank(c)) return CallStep::kMore;
      if (c != '{') return CallStep::kBroken;
      sink.Begin(name_, id_);
      at_ = At::kArguments;
      [[fallthrough]];
    case At::kArguments:
      sink.Arguments({&c, 1});
      if (span_.Read(c) != CallStep::kDone) return CallStep::kMore;
      sink.End();
      if (style_ != NamedCallStyle::kDeepSeekV3) return CallStep::kDone;
      at_ = At::kFence;
      return CallStep::kMore;
    case At::kFence:
      if (fence_size_ == 0 && IsBlank(c) && c != '\n') return CallStep::kMore;
      if (c != kFence[fence_size_]) return CallStep::kEnded;
      return ++fence_size_ == kFence.size() ? CallStep::kDone : CallStep::kMore;
  }
  return CallStep::kBroken;
}

CallStep MistralCallReader::Read(char c, CallSink& sink) {
  if (reader_ == nullptr) {
    if (IsBlank(c)) return CallStep::kMore;
    constexpr JsonCallShape kShape = {.arguments_optional = true};
    if (c == '[') {
      reader_ = std::make_unique<JsonCallListReader>(kShape);
    } else if (c == '{') {
      reader_ = std::make_unique<JsonCallReader>(kShape);
    } else {
      reader_ = std::make_unique<NamedCallReader>(NamedCallStyle::kMistral);
    }
  }
  return reader_->Read(c, sink);
}

}  // namespace mea::reply
