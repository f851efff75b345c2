#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "engine/grammar/grammar.h"
#include "engine/request.h"
#include "engine/text/chat/chat_template.h"
#include "server/access/key_use.h"
#include "server/text_budget.h"
#include "server/trace_context.h"

namespace mea {

enum class ToolChoice { kAuto, kNone, kRequired };

// A conversation to complete, its form checked, not yet rendered.
struct ChatSpec {
  ChatInput input;
  ToolChoice tool_choice = ToolChoice::kAuto;
  std::string tool_name;            // with kRequired: the one function to call; empty: any
  bool parallel_tool_calls = true;  // more than one call in a reply
  bool raw_reply = false;           // only the text is reported

  // Whether tool calls are looked for in the reply.
  bool seeks_calls() const { return !input.tools.empty() && tool_choice != ToolChoice::kNone; }
};

// A request as the server holds it: the engine's part, checked, and the part that concerns only
// text.
struct GenerationSpec {
  TraceContext trace;                 // the caller's place in it
  std::string label;                  // the caller's name for it; empty: none
  TextLease text;                     // until the request is with the engine
  std::shared_ptr<KeyCall> key_call;  // until the request has ended; null: no key
  Request request;                    // prompt is empty until the text is tokenized
  int n = 1;                          // completions
  std::string prompt_text;            // to be tokenized; for a chat, once it is rendered
  bool add_special_tokens = true;     // to prompt_text, unless it is a chat's
  bool parse_special = true;          // in it
  std::optional<ChatSpec> chat;
  std::optional<GrammarSpec> structured_output;  // as asked for
  std::optional<GrammarSpec> grammar;            // of the whole completion, once it is known
  std::vector<std::string> stop;                 // checked against limits.h
  bool echo = false;                             // output begins with the prompt
  bool prompt_token_ids = false;                 // are reported
  bool echo_only = false;                        // and is nothing else: max_tokens was 0
  bool include_stop = false;          // keep the stop string, or the stop token, in the output
  std::optional<int> max_tokens;      // as asked for; unset: max_new_tokens, or all that is left
  std::optional<int> max_new_tokens;  // of generation_config.json
};

// Sets request.stopping.max_tokens from what the tokenized prompt leaves of the context.
// INVALID_ARGUMENT: the prompt is empty or leaves no room, or max_tokens or min_tokens exceeds it.
absl::Status FitToContext(GenerationSpec& spec, int max_context);

}  // namespace mea
