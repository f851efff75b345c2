#pragma once

#include <string>

#include "engine/text/reply/call_sink.h"

namespace mea::reply {

// Finds where a JSON value ends, using only its brackets and strings: other errors are left to the
// parser of the value.
class JsonSpan {
 public:
  // The first byte must not be blank. kEnded: only of a number or a word.
  CallStep Read(char c);

 private:
  enum class At { kStart, kString, kEscape, kBrackets, kScalar };
  At at_ = At::kStart;
  int64_t depth_ = 0;
};

struct JsonCallShape {
  // Whether a call without arguments counts as one with {}; otherwise it is not a call.
  bool arguments_optional = false;
  // {"name": {arguments}} instead of {"name": "...", "arguments": {...}}.
  bool key_is_name = false;
  // A key that no call has ends the attempt: the JSON may be an answer.
  bool known_keys_only = false;
};

// {"name": "f", "arguments": {...}}. The keys "parameters" and "tool_name" work too, in any order;
// other keys are ignored. Once the name is known, arguments stream as the model wrote them. A
// string that holds a JSON object counts as that object.
class JsonCallReader : public CallReader {
 public:
  explicit JsonCallReader(const JsonCallShape& shape) : shape_(shape) {}

  CallStep Read(char c, CallSink& sink) override;

 private:
  enum class At { kOpen, kFirstKey, kNextKey, kInKey, kColon, kBeforeValue, kInValue, kAfterValue };
  enum class Role { kName, kArguments, kOther };

  CallStep ReadKey(char c);
  CallStep BeginValue(char c, CallSink& sink);
  CallStep ReadValue(char c, CallSink& sink);
  CallStep EndValue(CallSink& sink);
  CallStep Close(CallSink& sink);
  Role RoleOf(const std::string& key) const;

  JsonCallShape shape_;
  At at_ = At::kOpen;
  Role role_ = Role::kOther;
  bool escaped_ = false;
  bool streaming_ = false;  // the current value goes to the sink as it arrives
  JsonSpan span_;
  std::string key_;
  std::string value_;  // the current JSON text, if it is kept
  std::string name_;
  std::string arguments_;  // complete, while the name is not known
  bool has_arguments_ = false;
};

// [call, call, ...].
class JsonCallListReader : public CallReader {
 public:
  explicit JsonCallListReader(const JsonCallShape& shape) : shape_(shape), call_(shape) {}

  CallStep Read(char c, CallSink& sink) override;

 private:
  enum class At { kOpen, kBeforeCall, kInCall, kAfterCall };
  JsonCallShape shape_;
  JsonCallReader call_;
  At at_ = At::kOpen;
};

}  // namespace mea::reply
