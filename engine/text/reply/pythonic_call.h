#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "engine/text/reply/call_sink.h"

namespace mea::reply {

// `arguments`, keyword arguments as Python writes them (a=1, b='x', c=[True, {'d': None}]), as a
// JSON object. Absent if they are not literals, or nested deeper than 64 levels.
std::optional<std::string> PythonArgumentsToJson(std::string_view arguments);

// [f(a=1), g()]. Each call is given to the sink when it is complete, so a broken one stays text.
class PythonicCallReader : public CallReader {
 public:
  CallStep Read(char c, CallSink& sink) override;

 private:
  enum class At { kOpen, kName, kFirstKey, kArguments, kAfterCall };

  CallStep ReadArguments(char c, CallSink& sink);

  At at_ = At::kOpen;
  bool any_ = false;
  std::string name_;
  std::string arguments_;
  char quote_ = 0;  // of the current string
  bool escaped_ = false;
  int64_t depth_ = 0;
};

}  // namespace mea::reply
