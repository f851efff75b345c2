#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/text/reply/reply_parser.h"
#include "engine/text/text_work.h"
#include "server/generation_spec.h"
#include "server/serving.h"

namespace mea {

// What makes of a checked request what the engine takes. On text workers, since it reads all of a
// client's text; a grammar, which may take seconds, on threads of its own.

// Renders the conversation into prompt_text, tokenizes prompt_text into request.prompt, and sets
// the grammar of structured output or of a call that must be made; request.grammar too, where it
// was compiled before. INVALID_ARGUMENT names the field.
absl::Status PreparePrompt(const Serving& serving, StillWanted still_wanted, GenerationSpec& spec);

// Sets request.grammar.
absl::Status CompileGrammar(const Serving& serving, StillWanted still_wanted, GenerationSpec& spec);

struct RenderedPrompt {
  std::string text;
  std::vector<int32_t> token_ids;
};
absl::StatusOr<RenderedPrompt> RenderPrompt(const ChatSpec& chat, const Serving& serving,
                                            StillWanted still_wanted);

// How the reply to the rendered conversation is read; completion `index` of the request.
absl::StatusOr<ReplyParser::Options> ReplyOptions(const GenerationSpec& spec,
                                                  const Serving& serving, int index);

}  // namespace mea
