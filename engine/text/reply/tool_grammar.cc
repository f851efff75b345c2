#include "engine/text/reply/tool_grammar.h"

#include <absl/status/status.h>
#include <absl/strings/str_cat.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

#include "engine/text/reply/call_sink.h"
#include "engine/text/reply/shapes.h"
#include "kernels/status_macros.h"

namespace mea {
namespace {

using TagJson = nlohmann::ordered_json;
using Choice = ToolGrammarOptions::Choice;

struct GrammarTool {
  std::string name;
  TagJson schema;
  bool strict = false;
};

// How calls are written: `before`, calls with `between` them, `after`.
struct CallsForm {
  std::string trigger;  // after this text only a call may follow
  std::string before;
  std::string between;
  std::string after;
};

CallsForm FormOf(ToolFormat format) {
  switch (format) {
    case ToolFormat::kLlama3Json:
      return {R"({"name": ")", "", "; ", ""};
    case ToolFormat::kMistral:
      return {"[TOOL_CALLS]", "[TOOL_CALLS][", ", ", "]"};
    case ToolFormat::kMistralV11:
      return {"[TOOL_CALLS]", "", "", ""};
    case ToolFormat::kDeepSeekV3:
      return {"<｜tool▁calls▁begin｜>", "<｜tool▁calls▁begin｜>", "\n", "<｜tool▁calls▁end｜>"};
    case ToolFormat::kDeepSeekV31:
      return {"<｜tool▁calls▁begin｜>", "<｜tool▁calls▁begin｜>", "", "<｜tool▁calls▁end｜>"};
    case ToolFormat::kKimiK2:
      return {"<|tool_calls_section_begin|>", "<|tool_calls_section_begin|>", "",
              "<|tool_calls_section_end|>"};
    case ToolFormat::kGranite:
      return {"<|tool_call|>", "<|tool_call|>[", ", ", "]"};
    case ToolFormat::kCohere:
      return {"<|START_ACTION|>", "<|START_ACTION|>[\n    ", ",\n    ", "\n]<|END_ACTION|>"};
    case ToolFormat::kApertus:
      return {"<|tools_prefix|>", "<|tools_prefix|>[", ", ", "]<|tools_suffix|>"};
    case ToolFormat::kFunctionary:
      return {"<function=", "", "", ""};
    case ToolFormat::kSeedOss:
      return {"<seed:tool_call>", "", "\n", ""};
    case ToolFormat::kHarmony:
      return {"<|channel|>commentary to=", "", "", ""};
    default:
      return {"<tool_call>", "", "\n", ""};
  }
}

TagJson Text(const std::string& value) { return {{"type", "const_string"}, {"value", value}}; }
TagJson Regex(const std::string& pattern) { return {{"type", "regex"}, {"pattern", pattern}}; }
TagJson Sequence(std::vector<TagJson> elements) {
  if (elements.size() == 1) return std::move(elements[0]);
  return {{"type", "sequence"}, {"elements", std::move(elements)}};
}
TagJson Tag(const std::string& begin, TagJson content, const std::string& end) {
  return {{"type", "tag"}, {"begin", begin}, {"content", std::move(content)}, {"end", end}};
}

// One call as the parser of `format` reads it.
TagJson CallTag(ToolFormat format, const GrammarTool& tool) {
  const std::string& name = tool.name;
  TagJson arguments = {{"type", "json_schema"}, {"json_schema", tool.schema}};
  switch (format) {
    case ToolFormat::kLlama3Json:
      return Tag(R"({"name": ")" + name + R"(", "parameters": )", std::move(arguments), "}");
    case ToolFormat::kMistral:
    case ToolFormat::kGranite:
      return Tag(R"({"name": ")" + name + R"(", "arguments": )", std::move(arguments), "}");
    case ToolFormat::kMistralV11:
      return Tag("[TOOL_CALLS]" + name + "[ARGS]", std::move(arguments), "");
    case ToolFormat::kDeepSeekV3:
      return Tag("<｜tool▁call▁begin｜>function<｜tool▁sep｜>" + name + "\n```json\n",
                 std::move(arguments), "\n```<｜tool▁call▁end｜>");
    case ToolFormat::kDeepSeekV31:
      return Tag("<｜tool▁call▁begin｜>" + name + "<｜tool▁sep｜>", std::move(arguments),
                 "<｜tool▁call▁end｜>");
    case ToolFormat::kKimiK2:
      return Tag("<|tool_call_begin|>functions." + name + ":",
                 Sequence({Regex("[0-9]{1,3}"), Text("<|tool_call_argument_begin|>"),
                           std::move(arguments)}),
                 "<|tool_call_end|>");
    case ToolFormat::kCohere:
      return Tag(R"({"tool_call_id": ")",
                 Sequence({Regex("[0-9]{1,3}"),
                           Text(R"(", "tool_name": ")" + name + R"(", "parameters": )"),
                           std::move(arguments)}),
                 "}");
    case ToolFormat::kApertus:
      return Tag(R"({")" + name + R"(": )", std::move(arguments), "}");
    case ToolFormat::kFunctionary:
      return Tag("<function=" + name + ">", std::move(arguments), "</function>");
    case ToolFormat::kQwen3Coder:
      arguments["style"] = "qwen_xml";
      return Tag("<tool_call>\n<function=" + name + ">\n", std::move(arguments),
                 "\n</function>\n</tool_call>");
    case ToolFormat::kSeedOss:
      arguments["style"] = "qwen_xml";
      return Tag("<seed:tool_call>\n<function=" + name + ">\n", std::move(arguments),
                 "\n</function>\n</seed:tool_call>");
    case ToolFormat::kGlm:
      arguments["style"] = "glm_xml";
      return Tag("<tool_call>" + name + "\n", std::move(arguments), "\n</tool_call>");
    case ToolFormat::kHarmony:
      // The mark that ends the call is the model's stop token, and no text.
      return Tag("<|channel|>commentary to=functions." + name + " <|constrain|>json<|message|>",
                 std::move(arguments), "");
    default:
      return Tag("<tool_call>\n{\"name\": \"" + name + "\", \"arguments\": ", std::move(arguments),
                 "}\n</tool_call>");
  }
}

absl::StatusOr<std::vector<GrammarTool>> ReadTools(std::string_view text) {
  const auto array = TagJson::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!array.is_array() || array.empty()) {
    return absl::InvalidArgumentError("tools is not an array with a tool in it");
  }
  std::vector<GrammarTool> tools;
  for (size_t i = 0; i < array.size(); ++i) {
    const std::string path = absl::StrCat("tools[", i, "].function");
    const TagJson function =
        array[i].is_object() ? array[i].value("function", TagJson()) : TagJson();
    if (!function.is_object()) return absl::InvalidArgumentError(path + " is not an object");
    GrammarTool tool;
    if (const auto name = function.find("name"); name != function.end() && name->is_string()) {
      tool.name = name->get<std::string>();
    }
    if (!reply::IsCallName(tool.name)) {
      return absl::InvalidArgumentError(absl::StrCat(path, ".name has to be 1 to ",
                                                     reply::kMaxNameBytes,
                                                     " letters, digits and any of _-./:"));
    }
    // A function without `parameters` takes no arguments.
    tool.schema = {
        {"type", "object"}, {"properties", TagJson::object()}, {"additionalProperties", false}};
    const auto parameters = function.find("parameters");
    if (parameters != function.end() && !parameters->is_null()) {
      if (!parameters->is_object()) {
        return absl::InvalidArgumentError(path + ".parameters is not an object");
      }
      // Arguments are an object even if the schema does not say so.
      tool.schema = *parameters;
      if (!tool.schema.contains("type")) tool.schema["type"] = "object";
    }
    const auto strict = function.find("strict");
    tool.strict = strict != function.end() && strict->is_boolean() && strict->get<bool>();
    tools.push_back(std::move(tool));
  }
  return tools;
}

// What may come before the calls; null if nothing may.
TagJson ReasoningPart(const ReplyFormat& format, const ToolGrammarOptions& options) {
  const TagJson any_text = {{"type", "any_text"}};
  if (format.reasoning == ReasoningFormat::kHarmony) {
    TagJson analysis = Tag("<|channel|>analysis<|message|>", any_text, "<|end|><|start|>assistant");
    return {{"type", "optional"}, {"content", std::move(analysis)}};
  }
  const reply::ReasoningShape& shape = reply::ShapeOf(format.reasoning);
  if (shape.close.empty() || !(options.begins_in_reasoning || options.may_reason)) return nullptr;
  const std::string open(options.begins_in_reasoning ? "" : shape.open);
  TagJson block = Tag(open, any_text, std::string(shape.close));
  // Models write blank lines after the block.
  TagJson part = Sequence({std::move(block), Regex("[ \\n]{0,4}")});
  if (options.begins_in_reasoning) return part;
  return {{"type", "optional"}, {"content", std::move(part)}};
}

TagJson Calls(ToolFormat format, const std::vector<GrammarTool>& tools, bool several) {
  const CallsForm form = FormOf(format);
  TagJson tags = TagJson::array();
  for (const GrammarTool& tool : tools) tags.push_back(CallTag(format, tool));
  TagJson calls = {{"type", "tags_with_separator"},
                   {"tags", std::move(tags)},
                   {"separator", form.between},
                   {"at_least_one", true},
                   {"stop_after_first", !several || format == ToolFormat::kHarmony}};
  return form.before.empty() ? calls : Tag(form.before, std::move(calls), form.after);
}

TagJson FreeTextWithCalls(ToolFormat format, std::vector<GrammarTool> tools, bool several) {
  for (GrammarTool& tool : tools) {
    if (!tool.strict) tool.schema = {{"type", "object"}};
  }
  const CallsForm form = FormOf(format);
  TagJson tags = TagJson::array();
  if (form.before.empty()) {
    for (const GrammarTool& tool : tools) tags.push_back(CallTag(format, tool));
  } else {
    tags.push_back(Calls(format, tools, several));
  }
  return {{"type", "triggered_tags"},
          {"triggers", {form.trigger}},
          {"tags", std::move(tags)},
          {"at_least_one", false},
          {"stop_after_first", !several}};
}

std::string TagText(TagJson root) {
  const TagJson tag = {{"type", "structural_tag"}, {"format", std::move(root)}};
  return tag.dump(-1, ' ', /*ensure_ascii=*/false, TagJson::error_handler_t::replace);
}

}  // namespace

absl::StatusOr<std::string> ToolCallGrammar(const ReplyFormat& format, std::string_view tools_text,
                                            const ToolGrammarOptions& options) {
  MEA_ASSIGN_OR_RETURN(auto tools, ReadTools(tools_text));
  const ReplyFormat forced = ForcedFormat(format);
  TagJson root;
  if (options.choice == Choice::kAuto) {
    // A model that has its own format uses it.
    const bool any_strict = std::any_of(tools.begin(), tools.end(),
                                        [](const GrammarTool& tool) { return tool.strict; });
    if (!any_strict || forced.tools != format.tools) return "";
    root = FreeTextWithCalls(forced.tools, std::move(tools), options.parallel);
  } else {
    if (options.choice == Choice::kNamed) {
      const auto named = std::find_if(tools.begin(), tools.end(), [&](const GrammarTool& tool) {
        return tool.name == options.name;
      });
      if (named == tools.end()) {
        return absl::InvalidArgumentError(absl::StrCat(
            "tool_choice names \"", options.name.substr(0, 64), "\", which is none of the tools"));
      }
      tools = {*named};
    }
    const bool several = options.parallel && options.choice == Choice::kRequired;
    std::vector<TagJson> parts;
    if (TagJson reasoning = ReasoningPart(forced, options); !reasoning.is_null()) {
      parts.push_back(std::move(reasoning));
    }
    parts.push_back(Calls(forced.tools, tools, several));
    root = Sequence(std::move(parts));
  }
  return TagText(std::move(root));
}

std::string AfterReasoning(const ReplyFormat& format, std::string_view content) {
  TagJson after = TagJson::parse(content, nullptr, /*allow_exceptions=*/false);
  TagJson reasoning = ReasoningPart(format, {.begins_in_reasoning = true});
  if (reasoning.is_null()) return TagText(std::move(after));
  return TagText(Sequence({std::move(reasoning), std::move(after)}));
}

}  // namespace mea
