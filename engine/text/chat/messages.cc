#include "engine/text/chat/messages.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>

#include <algorithm>
#include <iterator>
#include <memory>

#include "engine/storage/mismatch.h"
#include "engine/text/jinja/json_value.h"
#include "kernels/status_macros.h"

namespace mea {
namespace {

using jinja::DictObject;
using jinja::Value;

constexpr const char* kRoles[] = {"system", "developer", "user", "assistant", "tool", "function"};
constexpr std::string_view kReasoningNames[] = {"reasoning_content", "thinking", "reasoning"};

Value KeyOf(std::string_view name) { return Value::Constant(std::string(name)); }
Value DictValue(std::shared_ptr<DictObject> dict) { return Value::Dict(std::move(dict), nullptr); }
std::shared_ptr<DictObject> CopyOf(const Value& dict) {
  auto copy = std::make_shared<DictObject>();
  for (const auto& [key, value] : dict.dict().entries) copy->Set(key, value);
  return copy;
}

// A string followed by the tag.
Value WithTag(const Value& text) {
  jinja::TextBuilder builder;
  builder.Add(text.marked());
  builder.Add(kContinueTag);
  return Value::String(builder.Take(), nullptr);
}

class MessageReader {
 public:
  explicit MessageReader(const MessageOptions& options) : options_(options) {}

  absl::StatusOr<ChatMessages> Read(std::string_view json) {
    absl::StatusOr<Value> parsed = jinja::ParseJsonValue(json, true);
    if (!parsed.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat("messages ", std::string(parsed.status().message())));
    }
    if (!parsed->Is(jinja::Kind::kList)) return Error("messages", "is not an array");
    if (parsed->items().empty()) return Error("messages", "is empty");
    std::vector<Value> messages;
    for (size_t i = 0; i < parsed->items().size() && status_.ok(); ++i) {
      last_ = i + 1 == parsed->items().size();
      messages.push_back(Message(parsed->items()[i], absl::StrCat("messages[", i, "]")));
    }
    MEA_RETURN_IF_ERROR(status_);
    result_.list = Value::List(std::move(messages), nullptr);
    return std::move(result_);
  }

 private:
  absl::Status Error(const std::string& path, std::string_view what) {
    if (status_.ok()) {
      status_ = absl::InvalidArgumentError(absl::StrCat(path, " ", std::string(what)));
    }
    return status_;
  }

  Value Message(const Value& given, const std::string& path) {
    if (!given.is_dict()) {
      Error(path, "is not an object").IgnoreError();
      return Value();
    }
    auto message = std::make_shared<DictObject>();
    const Value* reasoning = nullptr;
    for (const std::string_view name : kReasoningNames) {
      const Value* value = given.dict().Find(name);
      if (reasoning == nullptr && value != nullptr && !value->none()) reasoning = value;
    }
    if (reasoning != nullptr) message->Set(KeyOf("thinking"), *reasoning);
    for (const auto& [key, value] : given.dict().entries) {
      if (value.none()) continue;
      const std::string_view name = key.text();
      if (name == "content") {
        message->Set(key, Content(value, path + ".content"));
      } else if (name == "tool_calls" && options_.parse_arguments) {
        message->Set(key, ToolCalls(value, path + ".tool_calls"));
      } else {
        message->Set(key, value);
      }
    }
    if (reasoning != nullptr) message->Set(KeyOf("reasoning_content"), *reasoning);
    const Value* role = message->Find("role");
    if (role == nullptr) {
      Error(path + ".role", "is missing").IgnoreError();
    } else if (!role->is_string()) {
      Error(path + ".role", "is not a string").IgnoreError();
    } else if (!IsKnownRole(role->text())) {
      Error(path + ".role", absl::StrCat(ShownName(role->text()), " is neither one of ",
                                         absl::StrJoin(kRoles, ", "), " nor in the chat template"))
          .IgnoreError();
    }
    if (last_ && options_.continue_final && status_.ok()) Continue(message.get(), path);
    return DictValue(std::move(message));
  }

  bool IsKnownRole(std::string_view role) const {
    if (std::count(std::begin(kRoles), std::end(kRoles), role) > 0) return true;
    const std::string name(role);
    return options_.source.find("'" + name + "'") != std::string_view::npos ||
           options_.source.find("\"" + name + "\"") != std::string_view::npos;
  }

  // The text of a part; missing after an error.
  Value TextOfPart(const Value& part, const std::string& path) {
    if (part.is_string()) return part;
    const Value* type = part.is_dict() ? part.dict().Find("type") : nullptr;
    if (type == nullptr || !type->is_string()) {
      Error(path, "is not a part with a type").IgnoreError();
      return Value::Missing();
    }
    const std::string_view kind = type->text();
    if (kind != "text" && kind != "input_text" && kind != "output_text") {
      Error(path + ".type", absl::StrCat(ShownName(kind), " is not supported")).IgnoreError();
      return Value::Missing();
    }
    const Value* text = part.dict().Find("text");
    if (text == nullptr || !text->is_string()) {
      Error(path + ".text", "is not a string").IgnoreError();
      return Value::Missing();
    }
    return *text;
  }

  Value Content(const Value& content, const std::string& path) {
    if (content.is_string()) return content;
    if (!content.Is(jinja::Kind::kList)) {
      Error(path, "is neither a string nor an array of parts").IgnoreError();
      return Value();
    }
    std::vector<Value> parts;
    jinja::TextBuilder joined;
    for (size_t i = 0; i < content.items().size(); ++i) {
      const Value& part = content.items()[i];
      const Value text = TextOfPart(part, absl::StrCat(path, "[", i, "]"));
      if (text.missing()) return Value();
      if (i > 0) joined.Add("\n");
      joined.Add(text.marked());
      auto plain = part.is_dict() ? CopyOf(part) : std::make_shared<DictObject>();
      plain->Set(KeyOf("type"), Value::Constant("text"));
      if (!part.is_dict()) plain->Set(KeyOf("text"), text);
      parts.push_back(DictValue(std::move(plain)));
    }
    if (options_.takes_parts) return Value::List(std::move(parts), nullptr);
    if (joined.overflown()) Error(path, "is too long").IgnoreError();
    return Value::String(joined.Take(), nullptr);
  }

  // Clients of OpenAI send the arguments of earlier calls as text; templates expect an object.
  Value ToolCalls(const Value& calls, const std::string& path) {
    if (!calls.Is(jinja::Kind::kList)) return calls;
    std::vector<Value> result;
    for (size_t i = 0; i < calls.items().size() && status_.ok(); ++i) {
      const Value& call = calls.items()[i];
      const Value* function = call.is_dict() ? call.dict().Find("function") : nullptr;
      const Value* arguments =
          function != nullptr && function->is_dict() ? function->dict().Find("arguments") : nullptr;
      if (arguments == nullptr || !arguments->is_string()) {
        result.push_back(call);
        continue;
      }
      absl::StatusOr<Value> parsed = DictValue(std::make_shared<DictObject>());
      if (!arguments->text().empty()) parsed = jinja::ParseJsonValue(arguments->text(), true);
      const std::string where = absl::StrCat(path, "[", i, "].function.arguments");
      if (!parsed.ok()) {
        Error(where, std::string(parsed.status().message())).IgnoreError();
      } else if (!parsed->is_dict()) {
        Error(where, "is not a JSON object").IgnoreError();
      } else {
        result_.parsed_arguments = true;
        auto new_function = CopyOf(*function);
        new_function->Set(KeyOf("arguments"), *parsed);
        auto new_call = CopyOf(call);
        new_call->Set(KeyOf("function"), DictValue(std::move(new_function)));
        result.push_back(DictValue(std::move(new_call)));
      }
    }
    return Value::List(std::move(result), nullptr);
  }

  // Adds the tag after the text that is to be continued.
  void Continue(DictObject* message, const std::string& path) {
    const Value* content = message->Find("content");
    if (content == nullptr) {
      Error(path + ".content", "is missing, so that it cannot be continued").IgnoreError();
      return;
    }
    if (content->is_string()) {
      result_.final_text = std::string(content->text());
      message->Set(KeyOf("content"), WithTag(*content));
      return;
    }
    std::vector<Value> parts = content->items();
    if (parts.empty()) {
      Error(path + ".content", "has no text that can be continued").IgnoreError();
      return;
    }
    auto last = CopyOf(parts.back());
    const Value text = *last->Find("text");
    result_.final_text = std::string(text.text());
    last->Set(KeyOf("text"), WithTag(text));
    parts.back() = DictValue(std::move(last));
    message->Set(KeyOf("content"), Value::List(std::move(parts), nullptr));
  }

  const MessageOptions options_;
  absl::Status status_;
  ChatMessages result_;
  bool last_ = false;
};

}  // namespace

absl::StatusOr<ChatMessages> ReadMessages(std::string_view json, const MessageOptions& options) {
  return MessageReader(options).Read(json);
}

}  // namespace mea
