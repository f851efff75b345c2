#pragma once

#include "engine/text/tokenizer.h"
#include "server/generation_spec.h"
#include "server/mailbox.h"

namespace mea {

// The prompt as the beginning of a completion: its tokens, and the text that was sent, or that of
// the token ids; the bytes of a code point that they leave incomplete come with the completion. If
// logprobs are asked for, every token has an entry without a value.
DeltaOutput MakeEcho(const GenerationSpec& spec, const Tokenizer& tokenizer);

}  // namespace mea
