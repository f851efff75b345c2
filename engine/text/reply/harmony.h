#pragma once

#include <string>
#include <string_view>

#include "engine/text/reply/call_sink.h"

namespace mea::reply {

// Reads the messages of OpenAI's harmony format:
//   <|channel|>analysis<|message|>reasoning<|end|>
//   <|start|>assistant<|channel|>commentary to=functions.f <|constrain|>json<|message|>{}<|call|>
//   <|start|>assistant<|channel|>final<|message|>content<|return|>
// The first one begins where the prompt ended, after "<|start|>assistant". A text without these
// marks is content. One thread.
class HarmonyReader {
 public:
  explicit HarmonyReader(bool tools_enabled) : tools_enabled_(tools_enabled) {}

  void Read(char c, CallSink& sink);
  void Finish(CallSink& sink);

 private:
  enum class Body { kContent, kReasoning, kCall };

  void ReadHeader(char c, CallSink& sink);
  void ReadBody(char c, CallSink& sink);
  void BeginBody(CallSink& sink);
  void EndBody(CallSink& sink);
  void BodyByte(char c, CallSink& sink);

  bool tools_enabled_;
  bool in_header_ = true;
  std::string header_;
  Body body_ = Body::kContent;
  bool any_argument_ = false;  // the current call has a byte of arguments
  std::string blanks_;         // of a call's arguments, which may be the last
  std::string held_;           // text that may begin a mark
};

}  // namespace mea::reply
