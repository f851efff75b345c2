#include "engine/text/chat/chat_template.h"

#include <absl/strings/str_cat.h>

#include <algorithm>
#include <iterator>

#include "engine/storage/mismatch.h"
#include "engine/text/chat/content_format.h"
#include "engine/text/chat/messages.h"
#include "engine/text/jinja/interpreter.h"
#include "engine/text/jinja/json_value.h"
#include "engine/text/jinja/parser.h"
#include "engine/text/jinja/unicode.h"
#include "kernels/status_macros.h"

namespace mea {
namespace {

using jinja::Value;
using Variables = std::vector<std::pair<std::string, Value>>;

constexpr size_t kMaxKwargs = 1000;

absl::Status InField(std::string_view field, const absl::Status& status) {
  return absl::InvalidArgumentError(absl::StrCat(field.data(), " ", std::string(status.message())));
}

// tools and documents: an array of objects, or none.
absl::StatusOr<Value> ReadObjects(std::string_view field, std::string_view json) {
  if (json.empty()) return Value::None();
  absl::StatusOr<Value> value = jinja::ParseJsonValue(json, true);
  if (!value.ok()) return InField(field, value.status());
  if (value->none()) return value;
  if (!value->Is(jinja::Kind::kList)) {
    return absl::InvalidArgumentError(absl::StrCat(field.data(), " is not an array"));
  }
  for (size_t i = 0; i < value->items().size(); ++i) {
    if (value->items()[i].is_dict()) continue;
    return absl::InvalidArgumentError(absl::StrCat(field.data(), "[", i, "] is not an object"));
  }
  return value;
}

absl::Status AddKwargs(std::string_view json, Variables* variables) {
  static constexpr std::string_view kTaken[] = {"messages", "tools", "documents",
                                                "add_generation_prompt"};
  if (json.empty()) return absl::OkStatus();
  const absl::StatusOr<Value> kwargs = jinja::ParseJsonValue(json, true);
  if (!kwargs.ok()) return InField("chat_template_kwargs", kwargs.status());
  if (kwargs->none()) return absl::OkStatus();
  if (!kwargs->is_dict())
    return absl::InvalidArgumentError("chat_template_kwargs is not an object");
  if (kwargs->dict().entries.size() > kMaxKwargs) {
    return absl::InvalidArgumentError(absl::StrCat("chat_template_kwargs has ",
                                                   kwargs->dict().entries.size(),
                                                   " fields, at most ", kMaxKwargs, " are read"));
  }
  for (const auto& [key, value] : kwargs->dict().entries) {
    if (std::find(std::begin(kTaken), std::end(kTaken), key.text()) != std::end(kTaken)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "chat_template_kwargs.", std::string(key.text()), " is a field of the request itself"));
    }
    variables->emplace_back(std::string(key.text()), value);
  }
  return absl::OkStatus();
}

void CutAt(size_t end, jinja::MarkedText* text) {
  text->text.resize(end);
  auto& inputs = text->inputs;
  while (!inputs.empty() && inputs.back().first >= end) inputs.pop_back();
  if (!inputs.empty()) inputs.back().second = std::min(inputs.back().second, end);
}

// Cuts the text at the end of the final message, which kContinueTag marks.
absl::Status CutAtTag(const std::string& final_text, jinja::MarkedText* text) {
  const std::string_view tag = kContinueTag.substr(0, kContinueTag.size() - 1);
  const auto [begin, end] = jinja::StripSpace(final_text, true, true);
  const std::string_view wanted = std::string_view(final_text).substr(begin, end - begin);
  const size_t at = jinja::FindLast(text->text, tag, text->text.size());
  if (at == text->text.npos ||
      (!wanted.empty() && jinja::FindFirst(text->text, wanted, 0) == text->text.npos)) {
    return absl::InvalidArgumentError(
        "continue_final_message is set, but the template does not print the final message as it "
        "is");
  }
  const bool spaced = std::string_view(text->text).substr(at).starts_with(kContinueTag);
  CutAt(at, text);
  // A template that trims its output has trimmed only the space before the end of the tag.
  if (!spaced) CutAt(jinja::StripSpace(text->text, false, true).second, text);
  return absl::OkStatus();
}

}  // namespace

struct ChatTemplate::Entry {
  std::string name;
  std::string source;
  std::unique_ptr<const jinja::Program> program;
  bool takes_parts = false;
  std::string file;  // stands for it in messages
};

ChatTemplate::ChatTemplate() = default;
ChatTemplate::~ChatTemplate() = default;

absl::Status ChatTemplate::Add(const std::string& name, std::string source,
                               const std::string& file) {
  absl::StatusOr<std::unique_ptr<const jinja::Program>> program = jinja::ParseTemplate(source);
  if (!program.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat(file, ": ", std::string(program.status().message())));
  }
  const bool takes_parts = TakesContentParts(**program);
  entries_.push_back(std::make_unique<const Entry>(
      Entry{name, std::move(source), *std::move(program), takes_parts, file}));
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<const ChatTemplate>> ChatTemplate::Parse(
    std::string source, SpecialTokens special_tokens, const std::string& name) {
  std::unique_ptr<ChatTemplate> result(new ChatTemplate);
  result->special_tokens_ = std::move(special_tokens);
  MEA_RETURN_IF_ERROR(result->Add("default", std::move(source), name));
  return std::unique_ptr<const ChatTemplate>(std::move(result));
}

const ChatTemplate::Entry* ChatTemplate::Find(std::string_view name) const {
  for (const auto& entry : entries_) {
    if (entry->name == name) return entry.get();
  }
  return nullptr;
}

std::string_view ChatTemplate::source(std::string_view name) const {
  const Entry* entry = Find(name.empty() ? "default" : name);
  return entry == nullptr ? std::string_view() : entry->source;
}

std::vector<std::pair<std::string, std::string>> ChatTemplate::origins() const {
  std::vector<std::pair<std::string, std::string>> origins;
  for (const auto& entry : entries_) origins.emplace_back(entry->name, entry->file);
  return origins;
}

bool ChatTemplate::takes_parts(std::string_view name) const {
  const Entry* entry = Find(name.empty() ? "default" : name);
  return entry != nullptr && entry->takes_parts;
}

absl::StatusOr<const ChatTemplate::Entry*> ChatTemplate::Choose(const ChatInput& input) const {
  const Entry* entry = nullptr;
  if (!input.template_name.empty()) {
    entry = Find(input.template_name);
  } else if (!input.tools.empty() && input.tools != "null") {
    entry = Find("tool_use");
  }
  if (entry == nullptr && input.template_name.empty()) entry = Find("default");
  if (entry != nullptr) return entry;
  std::string names;
  for (const auto& candidate : entries_) {
    absl::StrAppend(&names, names.empty() ? "" : ", ", candidate->name);
  }
  return absl::InvalidArgumentError(
      input.template_name.empty()
          ? absl::StrCat("chat_template is missing: the model has several and no default: ", names)
          : absl::StrCat("chat_template ", ShownName(input.template_name),
                         " is not one of the model's: ", names));
}

absl::StatusOr<RenderedChat> ChatTemplate::Render(
    const ChatInput& input, absl::Time now, absl::FunctionRef<absl::Status()> interrupted) const {
  if (input.continue_final_message && input.add_generation_prompt) {
    return absl::InvalidArgumentError(
        "continue_final_message and add_generation_prompt are both set; at most one may be");
  }
  MEA_ASSIGN_OR_RETURN(const Entry* entry, Choose(input));
  if (input.continue_final_message && entry->source.find("content") == std::string::npos) {
    return absl::InvalidArgumentError(
        "continue_final_message is set, but the template does not print contents");
  }

  MEA_ASSIGN_OR_RETURN(const Value tools, ReadObjects("tools", input.tools));
  MEA_ASSIGN_OR_RETURN(const Value documents, ReadObjects("documents", input.documents));
  MessageOptions options{.source = entry->source,
                         .takes_parts = entry->takes_parts,
                         .continue_final = input.continue_final_message};
  MEA_ASSIGN_OR_RETURN(ChatMessages messages, ReadMessages(input.messages, options));

  Variables variables;
  for (const auto& [name, token] : special_tokens_) {
    variables.emplace_back(name, Value::Constant(token));
  }
  MEA_RETURN_IF_ERROR(AddKwargs(input.kwargs, &variables));
  variables.emplace_back("tools", tools);
  variables.emplace_back("documents", documents);
  variables.emplace_back("add_generation_prompt", Value::Bool(input.add_generation_prompt));
  variables.emplace_back("messages", messages.list);

  const jinja::RunOptions run{.now = now, .interrupted = interrupted};
  absl::StatusOr<jinja::MarkedText> text = jinja::Interpreter(*entry->program, run).Run(variables);
  if (!text.ok() && messages.parsed_arguments &&
      text.status().code() == absl::StatusCode::kInvalidArgument) {
    // Some templates add the arguments to a string: they need the text of the request.
    options.parse_arguments = false;
    if (absl::StatusOr<ChatMessages> plain = ReadMessages(input.messages, options); plain.ok()) {
      variables.back().second = plain->list;
      auto second = jinja::Interpreter(*entry->program, run).Run(variables);
      if (second.ok()) text = std::move(second);
    }
  }
  MEA_RETURN_IF_ERROR(text.status());
  if (input.continue_final_message) {
    MEA_RETURN_IF_ERROR(CutAtTag(messages.final_text, &*text));
  }
  return RenderedChat{std::move(text->text), std::move(text->inputs)};
}

}  // namespace mea
