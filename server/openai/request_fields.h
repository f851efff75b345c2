#pragma once

#include <string>

#include "mea/v1/inference.pb.h"
#include "server/openai/error.h"
#include "server/openai/json_reader.h"
#include "server/openai/parsed_request.h"

namespace mea::openai {

// Read fields that several kinds of body share into `to`.

// model, sampling, stopping, priority, cache; also vLLM's names for what OpenAI lacks.
void ReadCommonFields(JsonReader& reader, v1::GenerateRequest& to, ParamNames& names);
// stream, stream_options, timeout.
void ReadStreamFields(JsonReader& reader, ParsedRequest& to);
// prompt_logprobs and return_token_ids, vLLM's; whether each was asked for.
struct PromptReport {
  bool logprobs = false;
  bool token_ids = false;
};
PromptReport ReadPromptReport(JsonReader& reader, bool stream, v1::ResponseParams& to);
// guided_*, structured_outputs.
void ReadGuidedFields(JsonReader& reader, v1::GenerateRequest& to, ParamNames& names);
// The same and response_format.
void ReadStructuredOutput(JsonReader& reader, v1::GenerateRequest& to, ParamNames& names);
// {"type": "text" | "json_object" | "json_schema" | ...}; `schema` is the object that has "schema".
void ReadResponseFormat(JsonReader& format, const Json& schema_holder, const std::string& param,
                        v1::GenerateRequest& to, ParamNames& names);

// Tools and tool_choice as chat completions write them.
void ReadTools(JsonReader& reader, v1::Chat& to, ParamNames& names);

// tool_choice and parallel_tool_calls.
void ReadToolUse(JsonReader& reader, v1::Chat& to, ParamNames& names);

// A schema, given as an object or as its text.
std::string SchemaText(const Json& schema);

// Identity, and what the answer needs to know.
AnswerInfo MakeAnswerInfo(const std::string& id, const Serving& serving,
                          const v1::GenerateRequest& request, int num_prompts = 1);

}  // namespace mea::openai
