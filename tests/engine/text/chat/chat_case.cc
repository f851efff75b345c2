#include "tests/engine/text/chat/chat_case.h"

#include <absl/time/time.h>

namespace mea {

using Json = nlohmann::ordered_json;

ChatInput InputOfCase(const Json& request) {
  const auto text_of = [&](const char* key) {
    const auto it = request.find(key);
    if (it == request.end() || it->is_null()) return std::string();
    return it->is_string() ? it->get<std::string>() : it->dump();
  };
  return {.messages = text_of("messages"),
          .tools = text_of("tools"),
          .documents = text_of("documents"),
          .kwargs = text_of("kwargs"),
          .add_generation_prompt = request.value("add_generation_prompt", false),
          .continue_final_message = request.value("continue_final_message", false)};
}

absl::StatusOr<RenderedChat> RenderCaseAs(const Json& request, bool* takes_parts) {
  SpecialTokens tokens;
  const Json named = request.value("special_tokens", Json::object());
  for (const auto& [name, token] : named.items()) {
    tokens.emplace_back(name, token.get<std::string>());
  }
  auto chat = ChatTemplate::Parse(request.at("template").get<std::string>(), tokens, "template");
  if (!chat.ok()) return chat.status();
  *takes_parts = (*chat)->takes_parts();
  const absl::Time now = absl::FromUnixSeconds(request.value("now", int64_t{1764500000}));
  return (*chat)->Render(InputOfCase(request), now, NeverInterrupted);
}

Json RenderCase(const Json& request) {
  bool takes_parts = false;
  const absl::StatusOr<RenderedChat> chat = RenderCaseAs(request, &takes_parts);
  if (!chat.ok()) {
    return {{"error", std::string(chat.status().message())}, {"takes_parts", takes_parts}};
  }
  Json inputs = Json::array();
  for (const auto& [begin, end] : chat->inputs) inputs.push_back({begin, end});
  return {{"text", chat->text}, {"inputs", inputs}, {"takes_parts", takes_parts}};
}

}  // namespace mea
