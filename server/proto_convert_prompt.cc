#include "server/proto_convert_prompt.h"

#include <iterator>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/strings/str_cat.h"
#include "kernels/status_macros.h"
#include "server/limits.h"
#include "server/proto_convert.h"

namespace mea {
namespace {

using Json = nlohmann::ordered_json;

// Proto strings are UTF-8, so nothing is replaced.
std::string Dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

void CheckJson(const std::string& text, const std::string& field, RequestReader& reader) {
  if (const absl::Status status = CheckJsonBounds(text, kJsonBounds); !status.ok()) {
    reader.Invalid(field, status.message());
  } else if (!Json::accept(text)) {
    reader.Invalid(field, "is not JSON");
  }
}

std::string MessageJson(const v1::ChatMessage& from) {
  if (!from.json().empty()) return from.json();
  Json message = {{"role", from.role()}};
  message["content"] = from.content();
  if (!from.reasoning_content().empty()) message["reasoning_content"] = from.reasoning_content();
  for (const v1::ToolCall& call : from.tool_calls()) {
    message["tool_calls"].push_back(
        {{"id", call.id()},
         {"type", "function"},
         {"function", {{"name", call.name()}, {"arguments", call.arguments()}}}});
  }
  if (!from.tool_call_id().empty()) message["tool_call_id"] = from.tool_call_id();
  if (!from.name().empty()) message["name"] = from.name();
  return Dump(message);
}

void CheckMessage(const v1::ChatMessage& from, const std::string& field, RequestReader& reader) {
  if (from.json().empty()) {
    if (from.role().empty()) reader.Invalid(absl::StrCat(field, ".role"), "is empty");
    return;
  }
  v1::ChatMessage rest = from;
  rest.clear_json();
  if (rest.ByteSizeLong() > 0) {
    reader.Invalid(absl::StrCat(field, ".json"), "stands beside other fields of the message");
  }
  CheckJson(from.json(), absl::StrCat(field, ".json"), reader);
}

// A JSON array of JSON texts, each checked.
std::string ArrayOf(const google::protobuf::RepeatedPtrField<std::string>& texts, const char* field,
                    RequestReader& reader) {
  if (texts.empty()) return "";
  std::string array = "[";
  for (int i = 0; i < texts.size(); ++i) {
    CheckJson(texts[i], absl::StrCat(field, "[", i, "]"), reader);
    absl::StrAppend(&array, i > 0 ? "," : "", texts[i]);
  }
  return array + "]";
}

ToolChoice ReadToolChoice(const v1::Chat& from, RequestReader& reader) {
  if (!v1::ToolChoice_IsValid(from.tool_choice())) {
    reader.Invalid("chat.tool_choice", absl::StrCat(from.tool_choice(), " is none of ToolChoice"));
  }
  const bool required = from.tool_choice() == v1::TOOL_CHOICE_REQUIRED;
  if (required && from.tools().empty()) {
    reader.Invalid("chat.tool_choice", "requires a call, and there are no tools");
  }
  if (!required && !from.tool_name().empty()) {
    reader.Invalid("chat.tool_name", "goes with TOOL_CHOICE_REQUIRED alone");
  }
  if (required) return ToolChoice::kRequired;
  return from.tool_choice() == v1::TOOL_CHOICE_NONE ? ToolChoice::kNone : ToolChoice::kAuto;
}

}  // namespace

void ReadPrompt(const v1::GenerateRequest& from, const Serving& serving, RequestReader& reader,
                GenerationSpec& spec) {
  const bool is_text = from.prompt_case() == v1::GenerateRequest::kText;
  if (from.has_add_special_tokens() && !is_text) {
    reader.Invalid("add_special_tokens", "goes with text alone");
  }
  if (from.has_parse_special() && !is_text) reader.Invalid("parse_special", "goes with text alone");
  spec.add_special_tokens = !from.has_add_special_tokens() || from.add_special_tokens();
  spec.parse_special = !from.has_parse_special() || from.parse_special();
  switch (from.prompt_case()) {
    case v1::GenerateRequest::kText:
      if (from.text().empty()) reader.Invalid("text", "is empty");
      reader.AtMost("text", std::ssize(from.text()), kMaxPromptBytes, "bytes");
      spec.prompt_text = from.text();
      return;
    case v1::GenerateRequest::kTokenIds:
      if (from.token_ids().ids().empty()) reader.Invalid("token_ids.ids", "is empty");
      spec.request.prompt = reader.TokenIds("token_ids.ids", from.token_ids().ids());
      return;
    case v1::GenerateRequest::kChat:
      spec.chat = ReadChat(from.chat(), serving, reader);
      return;
    case v1::GenerateRequest::PROMPT_NOT_SET:
      reader.Invalid("prompt", "is not set; send text, token_ids or chat");
  }
}

ChatSpec ReadChat(const v1::Chat& from, const Serving& serving, RequestReader& reader) {
  if (serving.chat == nullptr) {
    reader.Refuse(absl::UnimplementedError(
        "the model has no chat template: send a plain prompt (text over gRPC, /v1/completions over "
        "HTTP), or start the server with --chat-template FILE"));
  }
  int64_t bytes = std::ssize(from.template_kwargs());
  for (const v1::ChatMessage& message : from.messages()) bytes += message.ByteSizeLong();
  for (const std::string& tool : from.tools()) bytes += std::ssize(tool);
  for (const std::string& document : from.documents()) bytes += std::ssize(document);
  reader.AtMost("chat", bytes, kMaxChatBytes, "bytes");
  ChatSpec chat;
  if (!reader.status().ok()) return chat;

  if (from.messages().empty()) reader.Invalid("chat.messages", "is empty");
  std::string messages = "[";
  for (int i = 0; i < from.messages_size(); ++i) {
    CheckMessage(from.messages(i), absl::StrCat("chat.messages[", i, "]"), reader);
    absl::StrAppend(&messages, i > 0 ? "," : "", MessageJson(from.messages(i)));
  }
  chat.input = {.messages = messages + "]",
                .tools = ArrayOf(from.tools(), "chat.tools", reader),
                .documents = ArrayOf(from.documents(), "chat.documents", reader),
                .kwargs = from.template_kwargs(),
                .template_name = from.template_name(),
                .add_generation_prompt = from.has_add_generation_prompt()
                                             ? from.add_generation_prompt()
                                             : !from.continue_final_message(),
                .continue_final_message = from.continue_final_message()};
  if (chat.input.add_generation_prompt && chat.input.continue_final_message) {
    reader.Invalid("chat.continue_final_message",
                   "cannot be set together with add_generation_prompt: one goes on with the last "
                   "message, the other begins a new one");
  }
  if (!from.template_kwargs().empty()) {
    CheckJson(from.template_kwargs(), "chat.template_kwargs", reader);
  }
  chat.tool_choice = ReadToolChoice(from, reader);
  chat.tool_name = from.tool_name();
  chat.parallel_tool_calls = !from.has_parallel_tool_calls() || from.parallel_tool_calls();
  chat.raw_reply = from.raw_reply();
  return chat;
}

absl::StatusOr<ChatSpec> FromProto(const v1::RenderChatRequest& request, const Serving& serving) {
  MEA_RETURN_IF_ERROR(CheckModel(request.model(), serving));
  RequestReader reader(serving.engine.config().vocab_size);
  ChatSpec chat = ReadChat(request.chat(), serving, reader);
  if (!reader.status().ok()) return reader.status();
  return chat;
}

void ReadStructuredOutput(const v1::GenerateRequest& from, const Serving& serving,
                          RequestReader& reader, GenerationSpec& spec) {
  if (!from.has_structured_output()) return;
  const v1::StructuredOutput& output = from.structured_output();
  reader.AtMost("structured_output", static_cast<int64_t>(output.ByteSizeLong()),
                kMaxStructuredOutputBytes, "bytes");
  if (serving.grammars == nullptr) {
    reader.Refuse(absl::UnimplementedError("structured_output is not served"));
  }
  if (from.sampling().allowed_token_ids_size() > 0) {
    reader.Invalid("structured_output", "cannot be set together with allowed_token_ids");
  }
  if (spec.chat && spec.chat->tool_choice == ToolChoice::kRequired) {
    reader.Invalid("structured_output",
                   "cannot be set together with a tool_choice that requires a call");
  }
  using Kind = GrammarSpec::Kind;
  switch (output.kind_case()) {
    case v1::StructuredOutput::kJsonObject:
      if (!output.json_object()) reader.Invalid("structured_output.json_object", "is false");
      spec.structured_output = {.kind = Kind::kJsonObject};
      return;
    case v1::StructuredOutput::kJsonSchema:
      CheckJson(output.json_schema(), "structured_output.json_schema", reader);
      spec.structured_output = {.kind = Kind::kJsonSchema, .text = output.json_schema()};
      return;
    case v1::StructuredOutput::kRegex:
      spec.structured_output = {.kind = Kind::kRegex, .text = output.regex()};
      return;
    case v1::StructuredOutput::kChoice:
      spec.structured_output = {
          .kind = Kind::kChoice,
          .choices = {output.choice().values().begin(), output.choice().values().end()}};
      return;
    case v1::StructuredOutput::kGrammar:
      spec.structured_output = {.kind = Kind::kEbnf, .text = output.grammar()};
      return;
    case v1::StructuredOutput::kStructuralTag:
      spec.structured_output = {.kind = Kind::kStructuralTag, .text = output.structural_tag()};
      return;
    case v1::StructuredOutput::KIND_NOT_SET:
      reader.Invalid("structured_output",
                     "has no kind; set json_object, json_schema, regex, choice, grammar or "
                     "structural_tag");
  }
}

}  // namespace mea
