#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "engine/text/reply/call_sink.h"

namespace mea::reply {

// `text`, an object as Gemma 4 writes it ({key:<|"|>text<|"|>,n:1,list:[true]}), as JSON. Absent if
// it is not one, or nested deeper than 64 levels.
std::optional<std::string> GemmaObjectToJson(std::string_view text);

// call:f{key:<|"|>text<|"|>}. Given to the sink when it is complete.
class GemmaCallReader : public CallReader {
 public:
  CallStep Read(char c, CallSink& sink) override;

 private:
  std::string name_;  // with "call:" before it
  std::string object_;
  bool in_string_ = false;
  int64_t depth_ = 0;
};

}  // namespace mea::reply
