#pragma once

#include <string>

#include "engine/text/reply/call_sink.h"

namespace mea::reply {

// Finds where a JSON value ends, by its brackets and strings alone: what is wrong inside is for
// whoever parses the value.
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
  // A call without arguments is one with {}; otherwise it is none.
  bool arguments_optional = false;
  // {"name": {arguments}} instead of {"name": "...", "arguments": {...}}.
  bool key_is_name = false;
  // A key that no call has ends the attempt: for JSON that may be an answer.
  bool known_keys_only = false;
};

// {"name": "f", "arguments": {...}}. The keys "parameters" and "tool_name" do as well, in any
// order; other keys are ignored. Arguments stream as the model wrote them once the name is known. A
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
  bool streaming_ = false;  // the value under way goes to the sink as it comes
  JsonSpan span_;
  std::string key_;
  std::string value_;  // the JSON text under way, where it is kept
  std::string name_;
  std::string arguments_;  // whole, while the name is not known
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
