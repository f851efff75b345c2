#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "engine/text/reply/call_sink.h"
#include "engine/text/reply/parameter_types.h"
#include "engine/text/reply/reply_format.h"

namespace mea {

// Splits the text of one completion into content, reasoning and tool calls as it arrives. The sum
// of the deltas does not depend on how the text was cut; for a whole text call Push and Finish.
// Nothing fails: text that is no call is content. Time is linear in the text; only text that may
// begin a marker or a call waits, at most 1 MiB. One thread.
class ReplyParser {
 public:
  struct Options {
    ReplyFormat format;
    // False without tools, or with tool_choice "none": then nothing is a call.
    bool tools_enabled = false;
    // False: calls after the first are read and dropped (OpenAI's parallel_tool_calls).
    bool parallel = true;
    // A grammar forces calls: the rest of one that was cut off before its name is not content.
    bool only_calls = false;
    // The prompt ended inside a reasoning block, see EndsInReasoning.
    bool begins_in_reasoning = false;
    // For formats that write every value as plain text.
    ParameterTypes parameter_types;
    // The ids of the calls are derived from it.
    uint64_t id_seed = 0;
  };

  explicit ReplyParser(Options options);
  ~ReplyParser();
  ReplyParser(ReplyParser&&) noexcept;
  ReplyParser& operator=(ReplyParser&&) noexcept;

  // The text is valid UTF-8 that ends with a whole code point; then so are the deltas.
  ReplyDelta Push(std::string_view text);
  // Once, at the end. A call that was cut off stays as it is.
  ReplyDelta Finish();

  // Whether a call began: then the finish reason is "tool_calls".
  bool has_tool_calls() const;
  // Whether a call that began has not ended yet.
  bool in_call() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace mea
