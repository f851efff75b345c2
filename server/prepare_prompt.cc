#include "server/prepare_prompt.h"

#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/text/reply/tool_grammar.h"
#include "kernels/status_macros.h"
#include "server/client_text.h"
#include "server/field_error.h"

namespace mea {
namespace {

// Adds the name of the field to an error that lacks it.
absl::Status Named(const absl::Status& status, const char* field) {
  if (!absl::IsInvalidArgument(status)) return status;
  return WithField(absl::Status(status.code(), absl::StrCat(field, ": ", status.message())), field);
}

// The field of the request that the grammar comes from.
const char* FieldOfGrammar(const GenerationSpec& spec) {
  if (!spec.structured_output) return "chat.tools";
  switch (spec.structured_output->kind) {
    case GrammarSpec::Kind::kJsonObject:
      return "structured_output.json_object";
    case GrammarSpec::Kind::kJsonSchema:
      return "structured_output.json_schema";
    case GrammarSpec::Kind::kRegex:
      return "structured_output.regex";
    case GrammarSpec::Kind::kChoice:
      return "structured_output.choice";
    case GrammarSpec::Kind::kEbnf:
      return "structured_output.grammar";
    case GrammarSpec::Kind::kStructuralTag:
      return "structured_output.structural_tag";
  }
  return "structured_output";
}

// The field with which the error of a template begins; errors that the template raises are about
// messages.
const char* FieldOfRendering(std::string_view message) {
  const std::string_view name = message.substr(0, message.find_first_of(" .["));
  if (name == "tools") return "chat.tools";
  if (name == "documents") return "chat.documents";
  if (name == "chat_template") return "chat.template_name";
  if (name == "chat_template_kwargs") return "chat.template_kwargs";
  if (name == "continue_final_message") return "chat.continue_final_message";
  return "chat.messages";
}

// The model thinks first, whatever must follow.
bool ThinksFirst(const GenerationSpec& spec, const Serving& serving) {
  return spec.chat && EndsInReasoning(serving.reply_format, spec.prompt_text);
}

// The same language as a part of a structural tag. INVALID_ARGUMENT if its own JSON is invalid.
absl::StatusOr<std::string> TagFormatOf(const GrammarSpec& spec) {
  using Json = nlohmann::ordered_json;
  Json format;
  switch (spec.kind) {
    case GrammarSpec::Kind::kJsonObject:
      format = {{"type", "json_schema"}, {"json_schema", {{"type", "object"}}}};
      break;
    case GrammarSpec::Kind::kJsonSchema:
      format = {{"type", "json_schema"}, {"json_schema", Json::parse(spec.text, nullptr, false)}};
      if (format["json_schema"].is_discarded()) {
        return absl::InvalidArgumentError("the JSON Schema is not JSON");
      }
      break;
    case GrammarSpec::Kind::kRegex:
      format = {{"type", "regex"}, {"pattern", spec.text}};
      break;
    case GrammarSpec::Kind::kChoice:
      format = {{"type", "or"}, {"elements", Json::array()}};
      for (const std::string& choice : spec.choices) {
        format["elements"].push_back({{"type", "const_string"}, {"value", choice}});
      }
      break;
    case GrammarSpec::Kind::kEbnf:
      format = {{"type", "grammar"}, {"grammar", spec.text}};
      break;
    case GrammarSpec::Kind::kStructuralTag: {
      const Json tag = Json::parse(spec.text, nullptr, false);
      if (!tag.is_object() || !tag.contains("format")) {
        return absl::InvalidArgumentError("the structural tag is no object with a format");
      }
      format = tag["format"];
      break;
    }
  }
  return format.dump(-1, ' ', false, Json::error_handler_t::replace);
}

absl::StatusOr<GrammarSpec> StructuredOutput(const GenerationSpec& spec, const Serving& serving) {
  if (!ThinksFirst(spec, serving)) return *spec.structured_output;
  MEA_ASSIGN_OR_RETURN(const std::string content, TagFormatOf(*spec.structured_output));
  return GrammarSpec{.kind = GrammarSpec::Kind::kStructuralTag,
                     .text = AfterReasoning(serving.reply_format, content)};
}

// The language of the completion: the one that the request asks for, or calls of its tools; nothing
// for any text. Errors name the field.
absl::StatusOr<std::optional<GrammarSpec>> GrammarOf(const GenerationSpec& spec,
                                                     const Serving& serving) {
  if (spec.structured_output) {
    absl::StatusOr<GrammarSpec> output = StructuredOutput(spec, serving);
    if (!output.ok()) return Named(output.status(), FieldOfGrammar(spec));
    return *std::move(output);
  }
  if (!spec.chat || !spec.chat->seeks_calls()) return std::nullopt;
  const ChatSpec& chat = *spec.chat;
  using Choice = ToolGrammarOptions::Choice;
  const Choice choice = chat.tool_choice == ToolChoice::kAuto ? Choice::kAuto
                        : chat.tool_name.empty()              ? Choice::kRequired
                                                              : Choice::kNamed;
  absl::StatusOr<std::string> tag =
      ToolCallGrammar(serving.reply_format, chat.input.tools,
                      {.choice = choice,
                       .name = chat.tool_name,
                       .parallel = chat.parallel_tool_calls,
                       .begins_in_reasoning = ThinksFirst(spec, serving)});
  if (!tag.ok()) {
    return Named(tag.status(), choice == Choice::kNamed ? "chat.tool_name" : "chat.tools");
  }
  if (tag->empty()) return std::nullopt;  // any text, and any call
  return GrammarSpec{.kind = GrammarSpec::Kind::kStructuralTag, .text = *std::move(tag)};
}

}  // namespace

absl::StatusOr<RenderedPrompt> RenderPrompt(const ChatSpec& chat, const Serving& serving,
                                            StillWanted still_wanted) {
  absl::StatusOr<RenderedChat> rendered =
      serving.chat->Render(chat.input, absl::Now(), still_wanted);
  if (absl::IsInvalidArgument(rendered.status())) {
    return WithField(rendered.status(), FieldOfRendering(std::string(rendered.status().message())));
  }
  MEA_RETURN_IF_ERROR(rendered.status());
  if (rendered->text.empty()) return FieldError("chat.messages", "render to an empty text");
  MEA_ASSIGN_OR_RETURN(
      std::vector<int32_t> ids,
      EncodeText(serving.tokenizer, "chat.messages", rendered->text,
                 {.add_special_tokens = false, .literal = rendered->inputs}, still_wanted));
  return RenderedPrompt{std::move(rendered->text), std::move(ids)};
}

absl::Status PreparePrompt(const Serving& serving, StillWanted still_wanted, GenerationSpec& spec) {
  MEA_RETURN_IF_ERROR(still_wanted());
  Request& request = spec.request;
  if (spec.chat) {
    MEA_ASSIGN_OR_RETURN(RenderedPrompt prompt, RenderPrompt(*spec.chat, serving, still_wanted));
    spec.prompt_text = std::move(prompt.text);
    request.prompt = std::move(prompt.token_ids);
  } else if (request.prompt.empty()) {
    MEA_ASSIGN_OR_RETURN(
        request.prompt,
        EncodeText(serving.tokenizer, "prompt", spec.prompt_text,
                   PlainTextOptions(spec.add_special_tokens, spec.parse_special), still_wanted));
  }
  MEA_RETURN_IF_ERROR(still_wanted());

  MEA_ASSIGN_OR_RETURN(std::optional<GrammarSpec> grammar, GrammarOf(spec, serving));
  if (serving.grammars == nullptr) return absl::OkStatus();
  spec.grammar = std::move(grammar);
  if (spec.grammar) request.grammar = serving.grammars->Find(*spec.grammar);
  return absl::OkStatus();
}

absl::Status CompileGrammar(const Serving& serving, StillWanted still_wanted,
                            GenerationSpec& spec) {
  const char* field = FieldOfGrammar(spec);
  // Errors name the field of the request, not the grammar made from it.
  if (spec.structured_output && *spec.structured_output != *spec.grammar) {
    auto asked = serving.grammars->Compile(*spec.structured_output, still_wanted);
    if (!asked.ok()) return Named(asked.status(), field);
  }
  auto compiled = serving.grammars->Compile(*spec.grammar, still_wanted);
  if (!compiled.ok()) return Named(compiled.status(), field);
  spec.request.grammar = *std::move(compiled);
  return absl::OkStatus();
}

absl::StatusOr<ReplyParser::Options> ReplyOptions(const GenerationSpec& spec,
                                                  const Serving& serving, int index) {
  const ChatSpec& chat = *spec.chat;
  ReplyParser::Options options{
      .format = serving.reply_format,
      .tools_enabled = chat.seeks_calls(),
      .parallel = chat.parallel_tool_calls,
      .begins_in_reasoning = ThinksFirst(spec, serving),
      .id_seed = spec.request.sampling.seed + static_cast<uint64_t>(index)};
  if (!chat.seeks_calls()) return options;
  if (chat.tool_choice == ToolChoice::kRequired) {
    options.format = ForcedFormat(options.format);
    options.only_calls = true;
  }
  absl::StatusOr<ParameterTypes> types = ParameterTypes::Read(chat.input.tools);
  if (!types.ok()) return WithField(types.status(), "chat.tools");
  options.parameter_types = *std::move(types);
  return options;
}

}  // namespace mea
