#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "engine/text/reply/json_call.h"

namespace mea::reply {

enum class NamedCallStyle {
  kDeepSeekV3,   // function<｜tool▁sep｜>f\n```json\n{...}\n```
  kDeepSeekV31,  // f<｜tool▁sep｜>{...}
  kKimiK2,       // functions.f:0<|tool_call_argument_begin|>{...}
  kFunctionary,  // f>{...}
  kMistral,      // f[ARGS]{...}, f[CALL_ID]id[ARGS]{...} or f{...}
};

// The name as plain text, then the arguments as JSON, which stream as the model wrote them.
class NamedCallReader : public CallReader {
 public:
  explicit NamedCallReader(NamedCallStyle style) : style_(style) {}

  CallStep Read(char c, CallSink& sink) override;

 private:
  enum class At { kHeader, kBeforeArguments, kArguments, kFence };

  CallStep EndHeader(std::string_view header);

  NamedCallStyle style_;
  At at_ = At::kHeader;
  std::string header_;
  std::string name_;
  std::string id_;
  JsonSpan span_;
  size_t fence_size_ = 0;  // bytes of the closing fence that were read
};

// Mistral's: [call, call], one call as JSON, or a name and its arguments.
class MistralCallReader : public CallReader {
 public:
  CallStep Read(char c, CallSink& sink) override;

 private:
  std::unique_ptr<CallReader> reader_;  // null until the first byte that is not blank
};

}  // namespace mea::reply
