#pragma once

#include <string>
#include <string_view>

#include "engine/text/reply/call_sink.h"
#include "engine/text/reply/parameter_types.h"

namespace mea::reply {

// The tags around the name, keys and values of a call.
struct XmlCallShape {
  std::string_view function_open;  // "<function=", or empty: the name comes first
  std::string_view name_end;       // ">", or empty: a blank or the next tag
  std::string_view key_open;
  std::string_view key_end;
  std::string_view value_open;  // empty: the value follows the key's end
  std::string_view value_end;
  std::string_view close;
  bool trim_newline = false;  // one at each end of a value is markup
};

// <function=f> <parameter=key> value </parameter> </function>
extern const XmlCallShape kQwenXml;
// f <arg_key>key</arg_key> <arg_value>value</arg_value> </tool_call>
extern const XmlCallShape kGlmXml;

// Converts a call whose values are plain text to JSON. The schema gives the type of a value;
// strings stream, other values follow when they are complete.
class XmlCallReader : public CallReader {
 public:
  // `types` must outlive it. `in_function`: function_open was read already.
  XmlCallReader(const XmlCallShape& shape, const ParameterTypes* types, bool in_function);

  CallStep Read(char c, CallSink& sink) override;
  void Finish(CallSink& sink) override;

 private:
  enum class At { kFunction, kName, kBetween, kKey, kBeforeValue, kValue };

  CallStep EndName();
  CallStep ReadTag(char c, CallSink& sink);
  CallStep BeginValue(CallSink& sink);
  CallStep ReadValue(char c, CallSink& sink);
  void ValueByte(char c, CallSink& sink);
  void EndValue(CallSink& sink);

  XmlCallShape shape_;
  const ParameterTypes* types_;
  std::string value_end_;  // including the newline before it
  At at_;
  std::string tag_;  // the part of the next tag that was read
  std::string name_;
  std::string key_;
  std::string value_;  // of a value that is not a string
  std::string held_;   // bytes of a value that may begin its end
  uint8_t value_types_ = 0;
  bool at_value_start_ = false;
  bool any_ = false;  // there was a parameter before
};

}  // namespace mea::reply
