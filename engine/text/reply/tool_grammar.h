#pragma once

#include <absl/status/statusor.h>

#include <string>
#include <string_view>

#include "engine/text/reply/reply_format.h"

namespace mea {

struct ToolGrammarOptions {
  enum class Choice {
    kAuto,      // free text; a call must match the schema of its tool if that is strict
    kRequired,  // only calls, of any of the tools
    kNamed,     // only one call, of the tool `name`
  };
  Choice choice = Choice::kRequired;
  std::string name;
  bool parallel = true;
  // The prompt ended inside a reasoning block; reasoning is free and comes before the calls.
  bool begins_in_reasoning = false;
  // The model may open such a block itself.
  bool may_reason = false;
};

// The structural tag of xgrammar 0.2.9, as JSON, of the replies that `options` allow. `tools` is
// the array of an OpenAI request. A completion under it must be parsed with ForcedFormat(format).
// Empty for kAuto without a strict tool: nothing is forced. INVALID_ARGUMENT names the field.
absl::StatusOr<std::string> ToolCallGrammar(const ReplyFormat& format, std::string_view tools,
                                            const ToolGrammarOptions& options);

// The structural tag of a reply that begins inside its reasoning: free text until that ends, then
// `content`, the JSON of a format inside a structural tag.
std::string AfterReasoning(const ReplyFormat& format, std::string_view content);

}  // namespace mea
