
#include "absl/strings/str_cat.h"
#include "kernels/status_macros.h"
#include "server/limits.h"
#include "server/openai/completion_answer.h"
#include "server/openai/parsed_request.h"
#include "server/openai/request_fields.h"

namespace mea::openai {
namespace {

// The default of OpenAI for every model.
constexpr int kDefaultMaxTokens = 16;

// A prompt is a text or a list of token ids.
void SetPrompt(JsonReader& reader, const std::string& name, const Json& prompt,
               v1::GenerateRequest& to) {
  if (prompt.is_string()) {
    to.set_text(prompt.get<std::string>());
    return;
  }
  if (!prompt.is_array()) return reader.WrongType(name, prompt, "a text or a list of token ids");
  v1::TokenIds& ids = *to.mutable_token_ids();
  for (size_t i = 0; i < prompt.size(); ++i) {
    const Json& id = prompt[i];
    if (!id.is_number_integer() || id < 0 || id > INT32_MAX) {
      return reader.WrongType(absl::StrCat(name, "[", i, "]"), id, "a token id");
    }
    ids.add_ids(id.get<int32_t>());
  }
}

// One prompt or a list of prompts; each becomes a request with the same options.
void ReadPrompts(JsonReader& reader, std::vector<v1::GenerateRequest>& requests) {
  const Json* prompt = reader.Find("prompt");
  if (prompt == nullptr) return reader.Invalid("prompt", "is not set");
  const bool is_list = prompt->is_array() && !prompt->empty() && !prompt->front().is_number();
  if (!is_list) return SetPrompt(reader, "prompt", *prompt, requests.front());
  if (prompt->size() > kMaxPromptsPerRequest) {
    return reader.Invalid("prompt", absl::StrCat("has ", prompt->size(), " prompts, the most is ",
                                                 kMaxPromptsPerRequest));
  }
  const std::string id = requests.front().request_id();
  requests.resize(prompt->size(), requests.front());
  for (size_t i = 0; i < prompt->size(); ++i) {
    SetPrompt(reader, absl::StrCat("prompt[", i, "]"), (*prompt)[i], requests[i]);
    if (i > 0) requests[i].set_request_id(absl::StrCat(id, "-", i));
  }
}

}  // namespace

absl::StatusOr<ParsedRequest> ReadCompletion(const Json& body, const std::string& id,
                                             const Serving& serving) {
  absl::Status complaint;
  JsonReader reader(body, &complaint);
  ParsedRequest parsed;
  v1::GenerateRequest& request = parsed.requests.emplace_back();
  request.set_request_id(id);
  ReadCommonFields(reader, request, parsed.names);
  ReadStreamFields(reader, parsed);
  ReadStructuredOutput(reader, request, parsed.names);
  reader.NotServed("suffix", "");
  const auto best_of = reader.Int("best_of");
  if (best_of && *best_of != (request.sampling().has_n() ? request.sampling().n() : 1)) {
    reader.Invalid("best_of",
                   absl::StrCat(*best_of, " must equal n: all completions are returned"));
  }
  if (const auto v = reader.Int("max_tokens")) request.mutable_stopping()->set_max_tokens(*v);
  parsed.default_max_tokens = kDefaultMaxTokens;
  const auto logprobs = reader.Int("logprobs");
  if (logprobs) request.mutable_response()->set_logprobs(*logprobs);
  const bool echo = reader.Bool("echo").value_or(false);
  request.mutable_response()->set_echo(echo);
  if (echo && logprobs) request.mutable_response()->set_prompt_logprobs(true);
  parsed.names.emplace_back("text", "prompt");
  parsed.names.emplace_back("token_ids.ids", "prompt");

  // The token that ends a completion has an entry too, so that clients that score a prompt can
  // count.
  if (logprobs && request.stopping().stop().empty() &&
      request.stopping().stop_token_ids().empty()) {
    request.mutable_stopping()->set_include_stop(true);
  }
  const PromptReport report = ReadPromptReport(reader, parsed.stream, *request.mutable_response());
  CompletionAnswerOptions options{.stream = parsed.stream,
                                  .logprobs = logprobs.has_value(),
                                  .top_logprobs = logprobs.value_or(0),
                                  .prompt_logprobs = report.logprobs,
                                  .return_token_ids = report.token_ids};
  if (const Json* stream_options = reader.Object("stream_options")) {
    JsonReader inside = reader.Inside(*stream_options, "stream_options");
    options.include_usage = inside.Bool("include_usage").value_or(false);
  }
  const bool as_ids = reader.Bool("return_tokens_as_token_ids").value_or(false);
  const auto add_special_tokens = reader.Bool("add_special_tokens");
  const auto parse_special = reader.Bool("parse_special");
  ReadPrompts(reader, parsed.requests);
  for (v1::GenerateRequest& to : parsed.requests) {
    if (!to.has_text()) continue;  // token ids are used unchanged
    if (add_special_tokens) to.set_add_special_tokens(*add_special_tokens);
    if (parse_special) to.set_parse_special(*parse_special);
  }
  MEA_RETURN_IF_ERROR(complaint);
  const AnswerInfo info = MakeAnswerInfo(id, serving, parsed.requests.front(),
                                         static_cast<int>(parsed.requests.size()));
  parsed.answer = MakeCompletionAnswer(info, options, TokenText(serving.tokenizer, as_ids));
  return parsed;
}

}  // namespace mea::openai
