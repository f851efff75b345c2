#include "server/generation_spec.h"

#include <algorithm>
#include <iterator>

#include "absl/strings/str_cat.h"

namespace mea {

absl::Status FitToContext(GenerationSpec& spec, int max_context) {
  StoppingParams& stopping = spec.request.stopping;
  const int64_t prompt_tokens = std::ssize(spec.request.prompt);
  if (prompt_tokens == 0) return absl::InvalidArgumentError("prompt is empty: it has no tokens");
  if (prompt_tokens >= max_context) {
    return absl::InvalidArgumentError(absl::StrCat("prompt of ", prompt_tokens, " tokens exceeds ",
                                                   max_context - 1, ", the context of ",
                                                   max_context, " less one"));
  }
  const int room = max_context - static_cast<int>(prompt_tokens);
  if (spec.max_tokens.value_or(0) > room) {
    return absl::InvalidArgumentError(absl::StrCat(
        "stopping.max_tokens ", *spec.max_tokens, " exceeds ", room, ", what a prompt of ",
        prompt_tokens, " tokens leaves of context ", max_context));
  }
  stopping.max_tokens =
      spec.max_tokens.value_or(std::min(spec.max_new_tokens.value_or(room), room));
  if (stopping.min_tokens > stopping.max_tokens) {
    return absl::InvalidArgumentError(absl::StrCat("stopping.min_tokens ", stopping.min_tokens,
                                                   " exceeds max_tokens ", stopping.max_tokens));
  }
  return absl::OkStatus();
}

}  // namespace mea
