#include "engine/text/reply/reply_format.h"

#include <gmock/gmock.h>

#include <set>

#include "tests/engine/text/reply/reply_harness.h"

namespace mea {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::Not;

TEST(ReplyFormatTest, ATemplateShowsItsFormatByTheMarkersInIt) {
  using T = ToolFormat;
  using R = ReasoningFormat;
  const std::pair<std::string, ReplyFormat> cases[] = {
      {"{{ messages }}", {}},
      {"within <tool_call></tool_call> XML tags", {T::kHermes, R::kNone}},
      {"<tool_call>{} content.split('</think>')", {T::kHermes, R::kThinkTags}},
      {"<tool_call>\\n<function=a>\\n<parameter=b>", {T::kQwen3Coder, R::kNone}},
      {"<tool_call>{name}\\n<arg_key>", {T::kGlm, R::kNone}},
      {"<function=' + name + '>' </function>", {T::kFunctionary, R::kNone}},
      {"'{\"name\": function name, \"parameters\": dictionary of argument'",
       {T::kLlama3Json, R::kNone}},
      {"[TOOL_CALLS] [", {T::kMistral, R::kNone}},
      {"[TOOL_CALLS]' + name + '[ARGS]' [THINK]", {T::kMistralV11, R::kMistral}},
      {"'<｜tool▁call▁begin｜>' + type + '```json' '</think>'", {T::kDeepSeekV3, R::kThinkTags}},
      {"'<｜tool▁call▁begin｜>' + name", {T::kDeepSeekV31, R::kNone}},
      {"<|channel|>analysis<|message|>", {T::kHarmony, R::kHarmony}},
      {"<|channel>thought <channel|> <|tool_call> <tool_call|>", {T::kGemma4, R::kGemma4}},
  };
  for (const auto& [text, format] : cases) EXPECT_EQ(DetectReplyFormat(text), format) << text;
}

TEST(ReplyFormatTest, NamesChooseAFormatAndAutoTheDetectedOne) {
  const ReplyFormat detected = {ToolFormat::kGlm, ReasoningFormat::kThinkTags};
  EXPECT_EQ(*NamedReplyFormat("auto", "auto", detected), detected);
  EXPECT_EQ(*NamedReplyFormat("hermes", "none", detected),
            (ReplyFormat{ToolFormat::kHermes, ReasoningFormat::kNone}));
  EXPECT_EQ(*NamedReplyFormat("qwen3_xml", "deepseek_r1", detected),
            (ReplyFormat{ToolFormat::kQwen3Coder, ReasoningFormat::kThinkTags}));
  const auto unknown = NamedReplyFormat("nobody", "auto", detected);
  EXPECT_THAT(std::string(unknown.status().message()),
              HasSubstr("--tool-parser \"nobody\" is none of auto, none, hermes, llama3_json"));
  EXPECT_THAT(std::string(NamedReplyFormat("auto", "x", detected).status().message()),
              HasSubstr("--reasoning-parser \"x\" is none of auto, none, think_tags"));
}

TEST(ReplyFormatTest, EveryFormatHasANameThatLeadsBackToIt) {
  for (const SampleReply& sample : SampleReplies()) {
    const auto format =
        NamedReplyFormat(NameOf(sample.format.tools), NameOf(sample.format.reasoning), {});
    ASSERT_TRUE(format.ok());
    EXPECT_EQ(*format, sample.format);
    EXPECT_THAT(ToolParserNames(), HasSubstr(std::string(NameOf(sample.format.tools))));
  }
}

TEST(ReplyFormatTest, MarkersAreTheTextsThatTheParserLooksFor) {
  EXPECT_THAT(MarkerTokens({ToolFormat::kMistralV11, ReasoningFormat::kNone}),
              testing::ElementsAre("[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"));
  EXPECT_THAT(MarkerTokens({ToolFormat::kLlama3Json, ReasoningFormat::kThinkTags}),
              testing::ElementsAre("<|python_tag|>", "<think>", "</think>"));
  const auto harmony = MarkerTokens({ToolFormat::kHarmony, ReasoningFormat::kHarmony});
  EXPECT_EQ(std::set<std::string>(harmony.begin(), harmony.end()).size(), harmony.size());
  EXPECT_THAT(harmony, Contains("<|channel|>"));
  EXPECT_THAT(MarkerTokens({ToolFormat::kGemma4, ReasoningFormat::kGemma4}),
              Contains("<|channel>"));
  EXPECT_THAT(MarkerTokens({}), testing::IsEmpty());
}

TEST(ReplyFormatTest, APromptMayEndInsideReasoning) {
  const ReplyFormat think = {ToolFormat::kNone, ReasoningFormat::kThinkTags};
  EXPECT_TRUE(EndsInReasoning(think, "assistant\n<think>\n"));
  EXPECT_TRUE(EndsInReasoning(think, "<think>"));
  EXPECT_FALSE(EndsInReasoning(think, "<think>\n\n</think>\n\n"));
  EXPECT_FALSE(EndsInReasoning(think, "between <think> and </think>.\nassistant\n"));
  EXPECT_FALSE(EndsInReasoning(think, ""));
  EXPECT_FALSE(EndsInReasoning({}, "<think>"));
  EXPECT_FALSE(EndsInReasoning({ToolFormat::kHarmony, ReasoningFormat::kHarmony}, "<|start|>"));
}

}  // namespace
}  // namespace mea
