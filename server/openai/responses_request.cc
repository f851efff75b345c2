#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/status_macros.h"
#include "server/openai/parsed_request.h"
#include "server/openai/request_fields.h"
#include "server/openai/responses_answer.h"

namespace mea::openai {
namespace {

// The items of `input` as messages of a chat: calls belong to the assistant's message before them.
class Conversation {
 public:
  explicit Conversation(JsonReader& reader) : reader_(reader) {}

  void Add(const Json& item, const std::string& name) {
    if (!item.is_object()) return reader_.WrongType(name, item, "an object");
    JsonReader inside = reader_.Inside(item, name);
    const std::string type = inside.String("type").value_or("message");
    if (type == "message") {
      AddMessage(item, inside);
    } else if (type == "function_call") {
      const auto call_id = inside.String("call_id");
      const auto function = inside.String("name");
      const auto arguments = inside.String("arguments");
      if (!call_id) return inside.Invalid("call_id", "is not set");
      if (!function) return inside.Invalid("name", "is not set");
      AssistantMessage()["tool_calls"].push_back(
          {{"id", *call_id},
           {"type", "function"},
           {"function", {{"name", *function}, {"arguments", arguments.value_or("{}")}}}});
    } else if (type == "function_call_output") {
      const auto call_id = inside.String("call_id");
      if (!call_id) return inside.Invalid("call_id", "is not set");
      const Json* output = inside.Find("output");
      if (output == nullptr) return inside.Invalid("output", "is not set");
      messages_.push_back({{"role", "tool"}, {"tool_call_id", *call_id}, {"content", *output}});
    } else if (type == "reasoning") {
      std::string& thoughts = reasoning_;
      if (const Json* parts = inside.Array("content")) {
        for (const Json& part : *parts) {
          if (part.is_object() && part.contains("text") && part["text"].is_string()) {
            thoughts += part["text"].get<std::string>();
          }
        }
      }
    } else {
      inside.WrongType("type", Json(type),
                       "one of message, function_call, function_call_output, reasoning");
    }
  }
  void AddText(const std::string& role, const std::string& text) {
    messages_.push_back({{"role", role}, {"content", text}});
  }
  const std::vector<Json>& messages() const { return messages_; }

 private:
  void AddMessage(const Json& item, JsonReader& inside) {
    auto role = inside.String("role");
    if (!role || role->empty()) return inside.Invalid("role", "is not set");
    if (*role == "developer") role = "system";
    const Json* content = inside.Find("content");
    if (content == nullptr) return inside.Invalid("content", "is not set");
    if (!content->is_string() && !content->is_array()) {
      return inside.WrongType("content", item["content"], "a string or a list of parts");
    }
    Json message = {{"role", *role}, {"content", *content}};
    if (*role == "assistant" && !reasoning_.empty()) {
      message["reasoning_content"] = std::exchange(reasoning_, "");
    }
    messages_.push_back(std::move(message));
  }
  Json& AssistantMessage() {
    if (messages_.empty() || messages_.back()["role"] != "assistant") {
      messages_.push_back({{"role", "assistant"}, {"content", ""}});
      if (!reasoning_.empty()) {
        messages_.back()["reasoning_content"] = std::exchange(reasoning_, "");
      }
    }
    return messages_.back();
  }

  JsonReader& reader_;
  std::vector<Json> messages_;
  std::string reasoning_;  // of the assistant's next message
};

void ReadInput(JsonReader& reader, v1::Chat& to, ParamNames& names) {
  Conversation conversation(reader);
  if (const auto instructions = reader.String("instructions")) {
    conversation.AddText("system", *instructions);
  }
  const Json* input = reader.Find("input");
  if (input == nullptr) return reader.Invalid("input", "is not set");
  if (input->is_string()) {
    conversation.AddText("user", input->get<std::string>());
  } else if (const Json* items = reader.Array("input")) {
    if (items->empty()) reader.Invalid("input", "is empty; at least one item is expected");
    for (size_t i = 0; i < items->size(); ++i) {
      const std::string name = absl::StrCat("input[", i, "]");
      conversation.Add((*items)[i], name);
      if (conversation.messages().empty()) continue;
      names.emplace_back(absl::StrCat("messages[", conversation.messages().size() - 1, "]"), name);
    }
  }
  for (const Json& message : conversation.messages()) to.add_messages()->set_json(Dump(message));
}

// Functions have no wrapper, unlike those of chat completions.
void ReadFlatTools(JsonReader& reader, v1::Chat& to) {
  const Json* tools = reader.Array("tools");
  if (tools == nullptr) return;
  for (size_t i = 0; i < tools->size(); ++i) {
    const Json& tool = (*tools)[i];
    const std::string name = absl::StrCat("tools[", i, "]");
    if (!tool.is_object()) return reader.WrongType(name, tool, "an object");
    JsonReader inside = reader.Inside(tool, name);
    if (!inside.OneOf("type", {"function"})) {
      if (reader.complaint().ok()) inside.Invalid("type", "is not set; \"function\" is expected");
      return;
    }
    if (inside.String("name").value_or("").empty()) return inside.Invalid("name", "is not set");
    inside.Object("parameters");
    Json function = tool;
    function.erase("type");
    to.add_tools(Dump({{"type", "function"}, {"function", std::move(function)}}));
  }
}

Json Echoed(const Json& body) {
  Json echoed;
  const auto copy = [&](const char* name, Json unset) {
    const auto it = body.find(name);
    echoed[name] = it == body.end() || it->is_null() ? std::move(unset) : *it;
  };
  copy("instructions", nullptr);
  copy("max_output_tokens", nullptr);
  copy("metadata", Json::object());
  copy("parallel_tool_calls", true);
  copy("reasoning", {{"effort", nullptr}, {"summary", nullptr}});
  copy("temperature", nullptr);
  copy("text", {{"format", {{"type", "text"}}}});
  copy("tool_choice", "auto");
  copy("tools", Json::array());
  copy("top_p", nullptr);
  copy("user", nullptr);
  return echoed;
}

}  // namespace

absl::StatusOr<ParsedRequest> ReadResponse(const Json& body, const std::string& id,
                                           const Serving& serving) {
  absl::Status complaint;
  JsonReader reader(body, &complaint);
  ParsedRequest parsed;
  v1::GenerateRequest& request = parsed.requests.emplace_back();
  request.set_request_id(id);
  v1::Chat& chat = *request.mutable_chat();
  ReadCommonFields(reader, request, parsed.names);
  ReadStreamFields(reader, parsed);
  reader.NotServed("n", "");
  request.mutable_sampling()->clear_n();
  constexpr char kStateless[] =
      "this server keeps no responses: send the whole conversation as input";
  reader.NotServed("previous_response_id", kStateless);
  reader.NotServed("conversation", kStateless);
  reader.NotServed("background", kStateless);
  reader.NotServed("prompt", kStateless);
  reader.OneOf("truncation", {"disabled"});
  ReadInput(reader, chat, parsed.names);
  ReadFlatTools(reader, chat);
  ReadToolUse(reader, chat, parsed.names);
  Json kwargs = Json::object();
  if (const Json* given = reader.Object("chat_template_kwargs")) kwargs = *given;
  if (const Json* reasoning = reader.Object("reasoning")) {
    JsonReader inside = reader.Inside(*reasoning, "reasoning");
    if (const auto effort = inside.String("effort")) kwargs["reasoning_effort"] = *effort;
  }
  if (!kwargs.empty()) chat.set_template_kwargs(Dump(kwargs));
  ReadGuidedFields(reader, request, parsed.names);
  if (const Json* text = reader.Object("text")) {
    JsonReader inside = reader.Inside(*text, "text");
    if (const Json* format = inside.Object("format")) {
      JsonReader fields = inside.Inside(*format, "format");
      ReadResponseFormat(fields, *format, "text.format", request, parsed.names);
    }
  }
  if (const auto v = reader.Int("max_output_tokens"))
    request.mutable_stopping()->set_max_tokens(*v);
  const std::vector<std::string> include = reader.Strings("include");
  const bool logprobs =
      std::count(include.begin(), include.end(), "message.output_text.logprobs") > 0;
  const auto top_logprobs = reader.Int("top_logprobs");
  if (logprobs || top_logprobs) {
    request.mutable_response()->set_logprobs(top_logprobs.value_or(0));
  }
  parsed.names.emplace_back("stopping.max_tokens", "max_output_tokens");
  parsed.names.emplace_back("response.logprobs", "top_logprobs");
  parsed.names.emplace_back("chat.messages", "input");
  parsed.names.emplace_back("chat.template_kwargs", "chat_template_kwargs");
  parsed.names.emplace_back("chat", "input");
  parsed.names.emplace_back("prompt", "input");
  MEA_RETURN_IF_ERROR(complaint);
  parsed.answer = MakeResponsesAnswer(MakeAnswerInfo(id, serving, request),
                                      {.stream = parsed.stream,
                                       .logprobs = logprobs || top_logprobs.value_or(0) > 0,
                                       .top_logprobs = top_logprobs.value_or(0),
                                       .echoed = Echoed(body)},
                                      TokenText(serving.tokenizer, /*as_ids=*/false));
  return parsed;
}

}  // namespace mea::openai
