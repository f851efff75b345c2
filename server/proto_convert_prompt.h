#pragma once

#include "mea/v1/inference.pb.h"
#include "server/generation_spec.h"
#include "server/request_reader.h"
#include "server/serving.h"

namespace mea {

// The parts of FromProto for prompt, conversation and structured output. Errors go to `reader`.

void ReadPrompt(const v1::GenerateRequest& from, const Serving& serving, RequestReader& reader,
                GenerationSpec& spec);
ChatSpec ReadChat(const v1::Chat& from, const Serving& serving, RequestReader& reader);
void ReadStructuredOutput(const v1::GenerateRequest& from, const Serving& serving,
                          RequestReader& reader, GenerationSpec& spec);

}  // namespace mea
