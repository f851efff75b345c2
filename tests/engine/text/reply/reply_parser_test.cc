#include <gmock/gmock.h>

#include <set>

#include "tests/engine/text/reply/reply_harness.h"

namespace mea {
namespace {

using Call = ReplyText::Call;
using testing::ElementsAre;
using testing::IsEmpty;

ReplyText Hermes(std::string_view text, ReasoningFormat reasoning = ReasoningFormat::kNone) {
  return ParseReply(WithTools(ToolFormat::kHermes, reasoning), text);
}

ReplyText Thinking(std::string_view text, bool inside = false) {
  ReplyParser::Options options;
  options.format.reasoning = ReasoningFormat::kThinkTags;
  options.begins_in_reasoning = inside;
  return ParseReply(options, text);
}

constexpr char kCall[] = "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"n\": 1}}\n</tool_call>";

TEST(ReplyParserTest, TellsContentFromCalls) {
  const ReplyText reply = Hermes(std::string("Let me see.\n") + kCall);
  EXPECT_EQ(reply.content, "Let me see.");
  EXPECT_THAT(reply.calls, ElementsAre(Call{"f", R"({"n": 1})"}));
}

TEST(ReplyParserTest, BlanksBetweenBlocksVanishAndThoseOfTextStay) {
  const std::string call = kCall;
  EXPECT_EQ(Hermes("\n\n" + call + "\n" + call + "\n").content, "");
  EXPECT_EQ(Hermes("a  b\n" + call + "\n\nc \n").content, "a  b\n\nc \n");
  EXPECT_EQ(Hermes("\n" + call + "\nc").content, "c");
  EXPECT_EQ(Hermes("  a \n").content, "  a \n");
}

TEST(ReplyParserTest, ArgumentsStreamAsTheyCome) {
  ReplyParser parser(WithTools(ToolFormat::kHermes));
  ReplyDelta delta = parser.Push("<tool_call>{\"name\": \"f\", \"arguments\": {\"s\": \"a");
  ASSERT_EQ(delta.tool_calls.size(), 1u);
  EXPECT_EQ(delta.tool_calls[0].name, "f");
  EXPECT_EQ(delta.tool_calls[0].arguments, "{\"s\": \"a");
  delta = parser.Push("b");
  EXPECT_THAT(delta.tool_calls, ElementsAre(ToolCallDelta{0, "", "", "b"}));
  delta = parser.Push("\"}}</tool_call>");
  EXPECT_THAT(delta.tool_calls, ElementsAre(ToolCallDelta{0, "", "", "\"}"}));
  EXPECT_TRUE(parser.Finish().empty());
}

TEST(ReplyParserTest, OnlyWhatMayBeginAMarkerWaits) {
  ReplyParser parser(WithTools(ToolFormat::kHermes));
  EXPECT_EQ(parser.Push("a <b").content, "a <b");
  EXPECT_EQ(parser.Push(" <tool").content, "");
  EXPECT_EQ(parser.Push("s").content, " <tools");
  EXPECT_EQ(parser.Push("<tool_call").content, "");
  EXPECT_EQ(parser.Finish().content, "<tool_call");
}

TEST(ReplyParserTest, ABrokenCallIsContentWithItsMarkers) {
  for (const char* text :
       {"<tool_call>", "<tool_call>\n", "<tool_call>f</tool_call>", "<tool_call>{}</tool_call>",
        "<tool_call>{\"name\": \"f\"}</tool_call>", "<tool_call>{\"name\": 1}</tool_call>",
        "<tool_call>{\"arguments\": {}}</tool_call>", "<tool_call>{\"name\" \"f\"}</tool_call>",
        "<tool_call>{\"name\": \"f\", \"arguments\": [1]}</tool_call>",
        "<tool_call>{\"name\": \"\", \"arguments\": {}}</tool_call>",
        "<tool_call>{\"name\": \"f\", \"arguments\": \"no object\"}</tool_call>",
        "<tool_call>{'name': 'f', 'arguments': {}}</tool_call>",
        "<tool_call>{\"name\": \"f\", \"argum", "a <tool_call> b </tool_call> c",
        "<tool_call>[{\"name\": \"f\", \"arguments\": {}}]</tool_call>"}) {
    const ReplyText reply = Hermes(text);
    EXPECT_EQ(reply.content, text);
    EXPECT_THAT(reply.calls, IsEmpty());
  }
}

TEST(ReplyParserTest, WhatIsLeftOfAForcedCallIsNoContent) {
  ReplyParser::Options options = WithTools(ToolFormat::kHermes, ReasoningFormat::kThinkTags);
  options.only_calls = true;
  const std::string calls = std::string("<think>a</think>") + kCall + "\n" + kCall;
  for (size_t size = 0; size <= calls.size(); ++size) {
    const ReplyText reply = ParseReply(options, calls.substr(0, size));
    EXPECT_EQ(reply.content, "") << calls.substr(0, size);
    EXPECT_EQ(reply.reasoning.substr(0, 1), size > 7 ? "a" : "") << calls.substr(0, size);
  }
}

TEST(ReplyParserTest, SaysWhetherACallIsOpen) {
  ReplyParser parser(WithTools(ToolFormat::kHermes));
  parser.Push("<tool_call>{\"name\": \"f\", \"arguments\": {\"n\": ");
  EXPECT_TRUE(parser.in_call());
  parser.Push("1}}");
  EXPECT_FALSE(parser.in_call());
}

TEST(ReplyParserTest, ABrokenCallDoesNotHideTheNextOne) {
  const ReplyText reply = Hermes("<tool_call><tool_call>{\"x\" <tool_call>" + std::string(kCall));
  EXPECT_EQ(reply.content, "<tool_call><tool_call>{\"x\" <tool_call>");
  EXPECT_THAT(reply.calls, ElementsAre(Call{"f", R"({"n": 1})"}));
}

TEST(ReplyParserTest, ACallThatHasBegunStaysACall) {
  // Cut off, without its last bracket, with one too many, with text before the end marker.
  EXPECT_THAT(Hermes("<tool_call>{\"name\": \"f\", \"arguments\": {\"n\": [1").calls,
              ElementsAre(Call{"f", "{\"n\": [1"}));
  for (const char* end : {"</tool_call>", "", "}", "}\n", "}</tool_call>"}) {
    const ReplyText reply =
        Hermes(std::string("<tool_call>{\"name\": \"f\", \"arguments\": {}") + end);
    EXPECT_EQ(reply.content, "") << end;
    EXPECT_THAT(reply.calls, ElementsAre(Call{"f", "{}"})) << end;
  }
  const ReplyText reply =
      Hermes("<tool_call>{\"name\": \"f\", \"arguments\": {}}}\n</tool_call> x");
  EXPECT_EQ(reply.content, "} x");
  EXPECT_THAT(reply.calls, ElementsAre(Call{"f", "{}"}));
}

TEST(ReplyParserTest, KeysMayComeInAnyOrderAndOthersAreIgnored) {
  EXPECT_THAT(
      Hermes("<tool_call>{\"id\": [\"}\"], \"parameters\": {\"n\": \"\\\"}\"}, \"k\": 1e3 , "
             "\"name\": \"\\u0066\"}</tool_call>")
          .calls,
      ElementsAre(Call{"f", R"({"n": "\"}"})"}));
}

TEST(ReplyParserTest, ArgumentsInAStringAreTheObjectInIt) {
  EXPECT_THAT(
      Hermes("<tool_call>{\"name\": \"f\", \"arguments\": \"{\\\"n\\\": 1}\"}</tool_call>").calls,
      ElementsAre(Call{"f", R"({"n": 1})"}));
}

TEST(ReplyParserTest, ToolsThatNobodyNamedAreCallsToo) {
  EXPECT_EQ(Hermes("<tool_call>{\"name\": \"who?\", \"arguments\": {}}</tool_call>").calls[0].name,
            "who?");
}

TEST(ReplyParserTest, IdsDifferAndFollowFromTheSeed) {
  std::string text;
  for (int i = 0; i < 100; ++i) text += kCall;
  for (const ToolFormat format : {ToolFormat::kHermes, ToolFormat::kMistral}) {
    std::string calls = text;
    if (format == ToolFormat::kMistral) {
      calls = "[TOOL_CALLS][";
      for (int i = 0; i < 100; ++i) calls += i ? ",{\"name\":\"f\"}" : "{\"name\":\"f\"}";
      calls += "]";
    }
    ReplyParser::Options options = WithTools(format);
    const ReplyText reply = ParseReply(options, calls);
    ASSERT_EQ(reply.ids.size(), 100u);
    EXPECT_EQ(std::set<std::string>(reply.ids.begin(), reply.ids.end()).size(), 100u);
    EXPECT_EQ(ParseReply(options, calls).ids, reply.ids);
    ++options.id_seed;
    EXPECT_NE(ParseReply(options, calls).ids[0], reply.ids[0]);
    EXPECT_THAT(
        reply.ids[0],
        testing::MatchesRegex(format == ToolFormat::kMistral ? "[0-9A-Za-z]+" : "call_[0-9a-f]+"));
    EXPECT_EQ(reply.ids[0].size(), format == ToolFormat::kMistral ? 9u : 29u);
  }
}

TEST(ReplyParserTest, CallsBeyondTheBoundAreContent) {
  std::string text;
  for (int i = 0; i < 130; ++i) text += kCall;
  const ReplyText reply = Hermes(text);
  EXPECT_EQ(reply.calls.size(), 128u);
  EXPECT_EQ(reply.content, std::string(kCall) + kCall);

  std::string list = "[TOOL_CALLS][{\"name\": \"f\"}";
  for (int i = 0; i < 129; ++i) list += ", {\"name\": \"f\"}";
  const ReplyText listed = ParseReply(WithTools(ToolFormat::kMistral), list + "]");
  EXPECT_EQ(listed.calls.size(), 128u);
  EXPECT_EQ(listed.content, ", {\"name\": \"f\"}, {\"name\": \"f\"}]");
}

TEST(ReplyParserTest, WhatIsHeldIsBounded) {
  const std::string blanks(5 << 18, ' ');
  EXPECT_EQ(Hermes("<tool_call>" + blanks + "x").content, "<tool_call>" + blanks + "x");
  EXPECT_EQ(Hermes("a" + blanks + "x").content, "a" + blanks + "x");
  const std::string text = "<tool_call>{\"arguments\": {\"s\": \"" + std::string(5 << 18, 'x');
  EXPECT_EQ(Hermes(text).content, text);
}

TEST(ReplyParserTest, CallsInsideOneAnotherTakeLinearTime) {
  // Quadratic time would take minutes.
  std::string text;
  for (int i = 0; i < 20000; ++i) text += "<tool_call>{\"name\": \"";
  EXPECT_EQ(Hermes(text).content, text);
  text.assign(size_t{1} << 20, '<');
  EXPECT_EQ(Hermes(text).content, text);
}

TEST(ReplyParserTest, WithoutParallelCallsOnlyTheFirstIsReported) {
  ReplyParser::Options options = WithTools(ToolFormat::kHermes);
  options.parallel = false;
  const ReplyText reply = ParseReply(options, std::string("a\n") + kCall + kCall + "\nb");
  EXPECT_EQ(reply.calls.size(), 1u);
  EXPECT_EQ(reply.content, "a\nb");
}

TEST(ReplyParserTest, ReasoningEndsWithItsTag) {
  ReplyText reply = Thinking("<think>\na\n\nb\n</think>\n\nc");
  EXPECT_EQ(reply.reasoning, "a\n\nb");
  EXPECT_EQ(reply.content, "c");
  reply = Thinking("\n <think>a</think>");
  EXPECT_EQ(reply.reasoning, "a");
  EXPECT_EQ(reply.content, "");
  reply = Thinking("<think>\n\n</think>\n\nc\n");
  EXPECT_EQ(reply.reasoning, "");
  EXPECT_EQ(reply.content, "c\n");
}

TEST(ReplyParserTest, AReplyMayBeginInsideItsReasoning) {
  ReplyText reply = Thinking("\na</think>\nb", /*inside=*/true);
  EXPECT_EQ(reply.reasoning, "a");
  EXPECT_EQ(reply.content, "b");
  reply = Thinking("<think>\na<think></think>b", /*inside=*/true);
  EXPECT_EQ(reply.reasoning, "a<think>");
  EXPECT_EQ(reply.content, "b");
}

TEST(ReplyParserTest, ReasoningThatIsCutOffStaysReasoning) {
  const ReplyText reply = Thinking("<think>a </thin");
  EXPECT_EQ(reply.reasoning, "a </thin");
  EXPECT_EQ(reply.content, "");
}

TEST(ReplyParserTest, ReasoningIsOnlyAtTheBeginning) {
  EXPECT_EQ(Thinking("a <think>b</think>").content, "a <think>b</think>");
  EXPECT_EQ(Thinking("<think>a</think>b<think>c</think>").content, "b<think>c</think>");
}

TEST(ReplyParserTest, ReasoningStreams) {
  ReplyParser::Options options;
  options.format.reasoning = ReasoningFormat::kThinkTags;
  ReplyParser parser(options);
  EXPECT_EQ(parser.Push("<think>a").reasoning, "a");
  EXPECT_EQ(parser.Push(" b<").reasoning, " b");
  EXPECT_EQ(parser.Push("3").reasoning, "<3");
  EXPECT_EQ(parser.Push("</think>c").content, "c");
}

TEST(ReplyParserTest, ACallEndsReasoningAndALookAlikeDoesNot) {
  ReplyText reply = Hermes("<think>a <tool_call> b " + std::string(kCall) + "\nc</think>",
                           ReasoningFormat::kThinkTags);
  EXPECT_EQ(reply.reasoning, "a <tool_call> b");
  EXPECT_EQ(reply.content, "c</think>");
  EXPECT_THAT(reply.calls, ElementsAre(Call{"f", R"({"n": 1})"}));
  reply = Hermes("<think>a <tool_call> b</think>c", ReasoningFormat::kThinkTags);
  EXPECT_EQ(reply.reasoning, "a <tool_call> b");
  EXPECT_EQ(reply.content, "c");
}

TEST(ReplyParserTest, WithoutToolsReasoningIsStillTold) {
  ReplyParser::Options options = WithTools(ToolFormat::kHermes, ReasoningFormat::kThinkTags);
  options.tools_enabled = false;
  const ReplyText reply = ParseReply(options, "<think>a</think>\n" + std::string(kCall));
  EXPECT_EQ(reply.reasoning, "a");
  EXPECT_EQ(reply.content, kCall);
  EXPECT_THAT(reply.calls, IsEmpty());
}

}  // namespace
}  // namespace mea
