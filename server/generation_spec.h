#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "engine/request.h"

namespace mea {

// A request as the server holds it: the engine's part, checked, and what concerns text alone.
struct GenerationSpec {
  std::string trace_id;               // of the caller's trace; empty: none
  Request request;                    // prompt is empty where prompt_text is not
  int n = 1;                          // completions
  std::string prompt_text;            // to be tokenized
  std::vector<std::string> stop;      // checked against limits.h
  bool echo = false;                  // output begins with the prompt
  bool include_stop = false;          // keep the stop string, or the stop token, in the output
  std::optional<int> max_tokens;      // as asked for; unset: max_new_tokens, or all that is left
  std::optional<int> max_new_tokens;  // of generation_config.json
};

// Sets request.stopping.max_tokens from what the tokenized prompt leaves of the context.
// INVALID_ARGUMENT: the prompt is empty or leaves no room, or max_tokens or min_tokens exceeds it.
absl::Status FitToContext(GenerationSpec& spec, int max_context);

}  // namespace mea
