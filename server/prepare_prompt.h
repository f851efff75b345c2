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

// Turns a checked request into what the engine takes. Runs on text workers, since it reads all of a
// client's text; grammars, which may take seconds, have threads of their own.

// Renders the conversation into prompt_text, tokenizes prompt_text into request.prompt, and sets
// the grammar of structured output or of a forced call, and request.grammar if that is cached.
// INVALID_ARGUMENT names the field.
absl::Status PreparePrompt(const Serving& serving, StillWanted still_wanted, GenerationSpec& spec);

// Sets request.grammar.
absl::Status CompileGrammar(const Serving& serving, StillWanted still_wanted, GenerationSpec& spec);

struct RenderedPrompt {
  std::string text;
  std::vector<int32_t> token_ids;
};
absl::StatusOr<RenderedPrompt> RenderPrompt(const ChatSpec& chat, const Serving& serving,
                                            StillWanted still_wanted);

// The parser options for the reply to the rendered conversation; completion `index` of the request.
absl::StatusOr<ReplyParser::Options> ReplyOptions(const GenerationSpec& spec,
                                                  const Serving& serving, int index);

}  // namespace mea
