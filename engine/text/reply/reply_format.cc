#include "engine/text/reply/reply_format.h"

#include <absl/status/status.h>
#include <absl/strings/str_cat.h>

#include <algorithm>

#include "engine/text/reply/shapes.h"
#include "kernels/status_macros.h"

namespace mea {
namespace {

template <typename Format>
struct FormatName {
  std::string_view name;
  Format format;
};

// The first name of a format is the main one, the others are aliases.
constexpr FormatName<ToolFormat> kToolNames[] = {
    {"none", ToolFormat::kNone},
    {"hermes", ToolFormat::kHermes},
    {"qwen3_json", ToolFormat::kHermes},
    {"llama3_json", ToolFormat::kLlama3Json},
    {"llama4_json", ToolFormat::kLlama3Json},
    {"pythonic", ToolFormat::kPythonic},
    {"llama4_pythonic", ToolFormat::kPythonic},
    {"mistral", ToolFormat::kMistral},
    {"mistral_v11", ToolFormat::kMistralV11},
    {"deepseek_v3", ToolFormat::kDeepSeekV3},
    {"deepseek_v31", ToolFormat::kDeepSeekV31},
    {"qwen3_coder", ToolFormat::kQwen3Coder},
    {"qwen3_xml", ToolFormat::kQwen3Coder},
    {"seed_oss", ToolFormat::kSeedOss},
    {"glm45", ToolFormat::kGlm},
    {"glm47", ToolFormat::kGlm},
    {"kimi_k2", ToolFormat::kKimiK2},
    {"granite", ToolFormat::kGranite},
    {"cohere_command3", ToolFormat::kCohere},
    {"apertus", ToolFormat::kApertus},
    {"lfm2", ToolFormat::kLfm2},
    {"functionary", ToolFormat::kFunctionary},
    {"gemma4", ToolFormat::kGemma4},
    {"openai", ToolFormat::kHarmony},
    {"harmony", ToolFormat::kHarmony},
};
constexpr FormatName<ReasoningFormat> kReasoningNames[] = {
    {"none", ReasoningFormat::kNone},
    {"think_tags", ReasoningFormat::kThinkTags},
    {"deepseek_r1", ReasoningFormat::kThinkTags},
    {"deepseek_v3", ReasoningFormat::kThinkTags},
    {"qwen3", ReasoningFormat::kThinkTags},
    {"glm45", ReasoningFormat::kThinkTags},
    {"kimi_k2", ReasoningFormat::kThinkTags},
    {"nemotron_v3", ReasoningFormat::kThinkTags},
    {"seed_oss", ReasoningFormat::kSeedOss},
    {"mistral", ReasoningFormat::kMistral},
    {"cohere_command3", ReasoningFormat::kCohere},
    {"apertus", ReasoningFormat::kApertus},
    {"gemma4", ReasoningFormat::kGemma4},
    {"openai_gptoss", ReasoningFormat::kHarmony},
    {"harmony", ReasoningFormat::kHarmony},
};

// The format of a template: the first row whose texts all occur in it.
template <typename Format>
struct Clue {
  std::vector<std::string_view> texts;
  Format format;
};

template <typename Format>
Format FirstShown(std::string_view text, const std::vector<Clue<Format>>& clues) {
  for (const auto& clue : clues) {
    if (std::all_of(clue.texts.begin(), clue.texts.end(),
                    [&](std::string_view needle) { return text.find(needle) != text.npos; })) {
      return clue.format;
    }
  }
  return Format::kNone;
}

const std::vector<Clue<ToolFormat>>& ToolClues() {
  static const std::vector<Clue<ToolFormat>> clues = {
      {{"<|channel|>", "<|message|>"}, ToolFormat::kHarmony},
      {{"<|tool_call_begin|>", "<|tool_call_argument_begin|>"}, ToolFormat::kKimiK2},
      {{"<｜tool▁call▁begin｜>", "```json"}, ToolFormat::kDeepSeekV3},
      {{"<｜tool▁call▁begin｜>"}, ToolFormat::kDeepSeekV31},
      {{"<seed:tool_call>"}, ToolFormat::kSeedOss},
      {{"[TOOL_CALLS]", "[ARGS]"}, ToolFormat::kMistralV11},
      {{"[TOOL_CALLS]"}, ToolFormat::kMistral},
      {{"<|START_ACTION|>"}, ToolFormat::kCohere},
      {{"<|tools_prefix|>"}, ToolFormat::kApertus},
      {{"<|tool_call_start|>"}, ToolFormat::kLfm2},
      {{"<|tool_list_start|>"}, ToolFormat::kLfm2},
      {{"<|tool_call>", "<tool_call|>"}, ToolFormat::kGemma4},
      {{"<|tool_call|>"}, ToolFormat::kGranite},
      {{"<tool_call>", "<arg_key>"}, ToolFormat::kGlm},
      {{"<tool_call>", "<function=", "<parameter="}, ToolFormat::kQwen3Coder},
      {{"<tool_call>"}, ToolFormat::kHermes},
      {{"<function=", "</function>"}, ToolFormat::kFunctionary},
      {{"<|python_start|>"}, ToolFormat::kPythonic},
      {{"[func_name1(params_name1=params_value1"}, ToolFormat::kPythonic},
      {{R"({"name": function name, "parameters": dictionary)"}, ToolFormat::kLlama3Json},
      {{"<|python_tag|>"}, ToolFormat::kLlama3Json},
  };
  return clues;
}

const std::vector<Clue<ReasoningFormat>>& ReasoningClues() {
  static const std::vector<Clue<ReasoningFormat>> clues = {
      {{"<|channel|>", "<|message|>"}, ReasoningFormat::kHarmony},
      {{"<seed:think>"}, ReasoningFormat::kSeedOss},
      {{"[THINK]"}, ReasoningFormat::kMistral},
      {{"<|START_THINKING|>"}, ReasoningFormat::kCohere},
      {{"<|inner_prefix|>"}, ReasoningFormat::kApertus},
      {{"<|channel>thought", "<channel|>"}, ReasoningFormat::kGemma4},
      {{"</think>"}, ReasoningFormat::kThinkTags},
  };
  return clues;
}

template <typename Format, size_t N>
std::string JoinNames(const FormatName<Format> (&names)[N]) {
  std::string joined = "auto";
  for (const auto& row : names) {
    const auto* first = std::find_if(std::begin(names), std::end(names),
                                     [&](const auto& other) { return other.format == row.format; });
    if (first == &row) absl::StrAppend(&joined, ", ", std::string(row.name));
  }
  return joined;
}

template <typename Format, size_t N>
std::string_view FirstNameOf(const FormatName<Format> (&names)[N], Format format) {
  for (const auto& row : names) {
    if (row.format == format) return row.name;
  }
  return "none";
}

template <typename Format, size_t N>
absl::StatusOr<Format> FindName(const FormatName<Format> (&names)[N], std::string_view flag,
                                std::string_view name, Format detected) {
  if (name == "auto") return detected;
  for (const auto& row : names) {
    if (row.name == name) return row.format;
  }
  return absl::InvalidArgumentError(absl::StrCat(std::string(flag), " \"",
                                                 std::string(name.substr(0, 64)), "\" is none of ",
                                                 JoinNames(names)));
}

}  // namespace

ReplyFormat DetectReplyFormat(std::string_view chat_template) {
  return {FirstShown(chat_template, ToolClues()), FirstShown(chat_template, ReasoningClues())};
}

absl::StatusOr<ReplyFormat> NamedReplyFormat(std::string_view tool_parser,
                                             std::string_view reasoning_parser,
                                             const ReplyFormat& detected) {
  MEA_ASSIGN_OR_RETURN(const auto tools,
                       FindName(kToolNames, "--tool-parser", tool_parser, detected.tools));
  MEA_ASSIGN_OR_RETURN(const auto reasoning, FindName(kReasoningNames, "--reasoning-parser",
                                                      reasoning_parser, detected.reasoning));
  return ReplyFormat{tools, reasoning};
}

std::string ToolParserNames() { return JoinNames(kToolNames); }
std::string ReasoningParserNames() { return JoinNames(kReasoningNames); }

std::string_view NameOf(ToolFormat format) { return FirstNameOf(kToolNames, format); }
std::string_view NameOf(ReasoningFormat format) { return FirstNameOf(kReasoningNames, format); }

std::vector<std::string> MarkerTokens(const ReplyFormat& format) {
  std::vector<std::string> markers;
  const auto add = [&](std::string_view marker) {
    if (marker.size() < 2) return;
    if (std::find(markers.begin(), markers.end(), marker) == markers.end()) {
      markers.emplace_back(marker);
    }
  };
  const auto& tools = reply::ShapeOf(format.tools);
  for (const auto* list : {&tools.preludes, &tools.openers, &tools.closers, &tools.inner}) {
    for (const auto marker : *list) add(marker);
  }
  const auto& reasoning = reply::ShapeOf(format.reasoning);
  if (format.reasoning == ReasoningFormat::kGemma4) {
    add("<|channel>");  // the token; "thought" is a text
  } else {
    add(reasoning.open);
  }
  add(reasoning.close);
  for (const auto marker : reasoning.silent) add(marker);
  return markers;
}

bool EndsInReasoning(const ReplyFormat& format, std::string_view prompt) {
  const auto& shape = reply::ShapeOf(format.reasoning);
  if (shape.open.empty()) return false;
  prompt = prompt.substr(0, prompt.find_last_not_of(" \t\r\n") + 1);
  return prompt.ends_with(shape.open);
}

ReplyFormat ForcedFormat(const ReplyFormat& format) {
  // Harmony's channels frame calls as well.
  if (format.reasoning == ReasoningFormat::kHarmony) {
    return {ToolFormat::kHarmony, format.reasoning};
  }
  switch (format.tools) {
    case ToolFormat::kNone:
    case ToolFormat::kPythonic:
    case ToolFormat::kLfm2:
    case ToolFormat::kGemma4:
      return {ToolFormat::kHermes, format.reasoning};
    default:
      return format;
  }
}

}  // namespace mea
