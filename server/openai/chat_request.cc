#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/status_macros.h"
#include "server/openai/chat_answer.h"
#include "server/openai/chat_fields.h"
#include "server/openai/parsed_request.h"
#include "server/openai/request_fields.h"
#include "server/prepare_prompt.h"
#include "server/proto_convert.h"

namespace mea::openai {
namespace {

void ReadMessages(JsonReader& reader, v1::Chat& to) {
  const Json* messages = reader.Array("messages");
  if (messages == nullptr) {
    if (!reader.Has("messages")) reader.Invalid("messages", "is not set");
    return;
  }
  if (messages->empty()) reader.Invalid("messages", "is empty; at least one message is expected");
  for (size_t i = 0; i < messages->size(); ++i) {
    const Json& message = (*messages)[i];
    const std::string name = absl::StrCat("messages[", i, "]");
    if (!message.is_object()) return reader.WrongType(name, message, "an object");
    JsonReader inside = reader.Inside(message, name);
    const auto role = inside.String("role");
    if (!role || role->empty()) return inside.Invalid("role", "is not set");
    Json sent = message;
    // OpenAI's newer name for the role that templates call "system".
    if (*role == "developer") sent["role"] = "system";
    // Templates need `content` even if a message has none, as when an assistant only called a tool.
    if (!inside.Has("content")) {
      if (*role != "assistant" && *role != "tool") return inside.Invalid("content", "is not set");
      sent["content"] = "";
    }
    to.add_messages()->set_json(Dump(sent));
  }
}

// enable_thinking and the like, as vLLM takes them, and OpenAI's reasoning_effort.
void ReadTemplateFields(JsonReader& reader, v1::Chat& to) {
  Json kwargs = Json::object();
  if (const Json* given = reader.Object("chat_template_kwargs")) kwargs = *given;
  if (const auto effort = reader.String("reasoning_effort")) {
    if (!kwargs.contains("reasoning_effort")) kwargs["reasoning_effort"] = *effort;
  }
  if (!kwargs.empty()) to.set_template_kwargs(Dump(kwargs));
  reader.NotServed("chat_template", "the server's own template is used; see --chat-template");
  if (const Json* documents = reader.Array("documents")) {
    for (const Json& document : *documents) to.add_documents(Dump(document));
  }
  if (const auto v = reader.Bool("continue_final_message")) to.set_continue_final_message(*v);
  if (const auto v = reader.Bool("add_generation_prompt")) to.set_add_generation_prompt(*v);
}

void ReadChat(JsonReader& reader, v1::Chat& to, ParamNames& names) {
  ReadMessages(reader, to);
  ReadTools(reader, to, names);
  ReadTemplateFields(reader, to);
  names.emplace_back("chat.template_kwargs", "chat_template_kwargs");
  names.emplace_back("chat", "messages");
}

}  // namespace

absl::Status CheckModelField(JsonReader& reader, const Serving& serving) {
  const auto model = reader.String("model");
  if (!reader.complaint().ok()) return reader.complaint();
  return CheckModel(model.value_or(""), serving);
}

absl::StatusOr<std::vector<int32_t>> RenderMessages(JsonReader& reader, const Serving& serving,
                                                    StillWanted still_wanted) {
  v1::RenderChatRequest request;
  ParamNames names;
  ReadChat(reader, *request.mutable_chat(), names);
  if (!reader.complaint().ok()) return reader.complaint();
  MEA_ASSIGN_OR_RETURN(const ChatSpec chat, FromProto(request, serving));
  MEA_ASSIGN_OR_RETURN(RenderedPrompt prompt, RenderPrompt(chat, serving, still_wanted));
  return std::move(prompt.token_ids);
}

absl::StatusOr<ParsedRequest> ReadChatCompletion(const Json& body, const std::string& id,
                                                 const Serving& serving) {
  absl::Status complaint;
  JsonReader reader(body, &complaint);
  ParsedRequest parsed;
  v1::GenerateRequest& request = parsed.requests.emplace_back();
  request.set_request_id(id);
  ReadCommonFields(reader, request, parsed.names);
  ReadStreamFields(reader, parsed);
  ReadChat(reader, *request.mutable_chat(), parsed.names);
  ReadStructuredOutput(reader, request, parsed.names);
  reader.NotServed("audio", "");
  reader.NotServed("web_search_options", "");

  const auto max_tokens = reader.Int("max_tokens");
  const auto max_completion_tokens = reader.Int("max_completion_tokens");
  if (max_completion_tokens || max_tokens) {
    request.mutable_stopping()->set_max_tokens(max_completion_tokens ? *max_completion_tokens
                                                                     : *max_tokens);
    if (max_completion_tokens)
      parsed.names.emplace_back("stopping.max_tokens", "max_completion_tokens");
  }
  const bool logprobs = reader.Bool("logprobs").value_or(false);
  const auto top_logprobs = reader.Int("top_logprobs");
  if (top_logprobs.value_or(0) != 0 && !logprobs) {
    reader.Invalid("top_logprobs", "needs \"logprobs\": true");
  }
  if (logprobs) request.mutable_response()->set_logprobs(top_logprobs.value_or(0));
  parsed.names.emplace_back("response.logprobs", "top_logprobs");
  parsed.names.emplace_back("prompt", "messages");

  const PromptReport report = ReadPromptReport(reader, parsed.stream, *request.mutable_response());
  ChatAnswerOptions options{.stream = parsed.stream,
                            .logprobs = logprobs,
                            .top_logprobs = top_logprobs.value_or(0),
                            .prompt_logprobs = report.logprobs,
                            .include_reasoning = reader.Bool("include_reasoning").value_or(true),
                            .return_token_ids = report.token_ids};
  if (const Json* stream_options = reader.Object("stream_options")) {
    JsonReader inside = reader.Inside(*stream_options, "stream_options");
    options.include_usage = inside.Bool("include_usage").value_or(false);
  }
  const bool as_ids = reader.Bool("return_tokens_as_token_ids").value_or(false);
  MEA_RETURN_IF_ERROR(complaint);
  parsed.answer = MakeChatAnswer(MakeAnswerInfo(id, serving, request), options,
                                 TokenText(serving.tokenizer, as_ids));
  return parsed;
}

}  // namespace mea::openai
