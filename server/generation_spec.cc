#include "server/generation_spec.h"

#include <algorithm>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "engine/refusal.h"
#include "server/field_error.h"

namespace mea {
namespace {

absl::Status TooLong(std::string_view field, std::string_view problem) {
  return WithReason(FieldError(field, problem), "CONTEXT_LENGTH_EXCEEDED");
}

}  // namespace

absl::Status FitToContext(GenerationSpec& spec, int max_context) {
  StoppingParams& stopping = spec.request.stopping;
  const int64_t prompt_tokens = std::ssize(spec.request.prompt);
  if (prompt_tokens == 0) return FieldError("prompt", "is empty: it has no tokens");
  if (prompt_tokens >= max_context) {
    return TooLong("prompt", absl::StrCat("has ", prompt_tokens, " tokens; at most ",
                                          max_context - 1, " fit in the context of ", max_context));
  }
  const int room = max_context - static_cast<int>(prompt_tokens);
  if (spec.max_tokens.value_or(0) > room) {
    return TooLong("stopping.max_tokens",
                   absl::StrCat(*spec.max_tokens, " exceeds ", room, ", what a prompt of ",
                                prompt_tokens, " tokens leaves of context ", max_context));
  }
  stopping.max_tokens =
      spec.max_tokens.value_or(std::min(spec.max_new_tokens.value_or(room), room));
  if (stopping.min_tokens > stopping.max_tokens) {
    return FieldError(
        "stopping.min_tokens",
        absl::StrCat(stopping.min_tokens, " exceeds max_tokens ", stopping.max_tokens));
  }
  return absl::OkStatus();
}

}  // namespace mea
