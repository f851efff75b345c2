#include "engine/text/reply/shapes.h"

namespace mea::reply {

const ToolShape& ShapeOf(ToolFormat format) {
  static const ToolShape none;
  static const ToolShape hermes = {.openers = {"<tool_call>"}, .closers = {"</tool_call>"}};
  static const ToolShape llama3_json = {
      .openers = {"<|python_tag|>"}, .bare_opener = "{", .bare_in_lines = true, .separator = ";"};
  static const ToolShape pythonic = {
      .openers = {"<|python_start|>"}, .bare_opener = "[", .closers = {"<|python_end|>"}};
  static const ToolShape mistral = {.openers = {"[TOOL_CALLS]"}, .inner = {"[ARGS]", "[CALL_ID]"}};
  static const ToolShape deepseek = {.preludes = {"<｜tool▁calls▁begin｜>"},
                                     .openers = {"<｜tool▁call▁begin｜>"},
                                     .closers = {"<｜tool▁call▁end｜>", "<｜tool▁calls▁end｜>"},
                                     .inner = {"<｜tool▁sep｜>"}};
  static const ToolShape qwen3_coder = {.openers = {"<tool_call>", "<function="},
                                        .closers = {"</tool_call>"}};
  static const ToolShape seed_oss = {.openers = {"<seed:tool_call>"},
                                     .closers = {"</seed:tool_call>"}};
  static const ToolShape glm = {
      .openers = {"<tool_call>"},
      .inner = {"</tool_call>", "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"}};
  static const ToolShape kimi_k2 = {.preludes = {"<|tool_calls_section_begin|>"},
                                    .openers = {"<|tool_call_begin|>"},
                                    .closers = {"<|tool_call_end|>", "<|tool_calls_section_end|>"},
                                    .inner = {"<|tool_call_argument_begin|>"}};
  static const ToolShape granite = {.openers = {"<|tool_call|>", "<tool_call>"}};
  static const ToolShape cohere = {.openers = {"<|START_ACTION|>"}, .closers = {"<|END_ACTION|>"}};
  static const ToolShape apertus = {.openers = {"<|tools_prefix|>"},
                                    .closers = {"<|tools_suffix|>"}};
  static const ToolShape lfm2 = {.openers = {"<|tool_call_start|>"},
                                 .closers = {"<|tool_call_end|>"}};
  static const ToolShape functionary = {.openers = {"<function="}, .closers = {"</function>"}};
  static const ToolShape gemma4 = {
      .openers = {"<|tool_call>"}, .closers = {"<tool_call|>"}, .inner = {"<|\"|>"}};
  static const ToolShape harmony = {
      .inner = {"<|channel|>", "<|message|>", "<|start|>", "<|constrain|>", "<|call|>", "<|end|>"}};
  switch (format) {
    case ToolFormat::kNone:
      return none;
    case ToolFormat::kHermes:
      return hermes;
    case ToolFormat::kLlama3Json:
      return llama3_json;
    case ToolFormat::kPythonic:
      return pythonic;
    case ToolFormat::kMistral:
    case ToolFormat::kMistralV11:
      return mistral;
    case ToolFormat::kDeepSeekV3:
    case ToolFormat::kDeepSeekV31:
      return deepseek;
    case ToolFormat::kQwen3Coder:
      return qwen3_coder;
    case ToolFormat::kSeedOss:
      return seed_oss;
    case ToolFormat::kGlm:
      return glm;
    case ToolFormat::kKimiK2:
      return kimi_k2;
    case ToolFormat::kGranite:
      return granite;
    case ToolFormat::kCohere:
      return cohere;
    case ToolFormat::kApertus:
      return apertus;
    case ToolFormat::kLfm2:
      return lfm2;
    case ToolFormat::kFunctionary:
      return functionary;
    case ToolFormat::kGemma4:
      return gemma4;
    case ToolFormat::kHarmony:
      return harmony;
  }
  return none;
}

const ReasoningShape& ShapeOf(ReasoningFormat format) {
  static const ReasoningShape none;
  static const ReasoningShape think_tags = {"<think>", "</think>", {}};
  static const ReasoningShape seed_oss = {"<seed:think>", "</seed:think>", {}};
  static const ReasoningShape mistral = {"[THINK]", "[/THINK]", {}};
  static const ReasoningShape cohere = {
      "<|START_THINKING|>", "<|END_THINKING|>", {"<|START_RESPONSE|>", "<|END_RESPONSE|>"}};
  static const ReasoningShape apertus = {"<|inner_prefix|>", "<|inner_suffix|>", {}};
  static const ReasoningShape gemma4 = {"<|channel>thought", "<channel|>", {}};
  static const ReasoningShape harmony = {
      "", "", {"<|channel|>", "<|message|>", "<|start|>", "<|constrain|>", "<|call|>", "<|end|>"}};
  switch (format) {
    case ReasoningFormat::kNone:
      return none;
    case ReasoningFormat::kThinkTags:
      return think_tags;
    case ReasoningFormat::kSeedOss:
      return seed_oss;
    case ReasoningFormat::kMistral:
      return mistral;
    case ReasoningFormat::kCohere:
      return cohere;
    case ReasoningFormat::kApertus:
      return apertus;
    case ReasoningFormat::kGemma4:
      return gemma4;
    case ReasoningFormat::kHarmony:
      return harmony;
  }
  return none;
}

}  // namespace mea::reply
