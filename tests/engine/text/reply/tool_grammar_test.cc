#include "engine/text/reply/tool_grammar.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "tests/engine/text/reply/reply_harness.h"

namespace mea {
namespace {

using Choice = ToolGrammarOptions::Choice;
using Json = nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr char kTools[] =
    R"([{"type": "function", "function": {"name": "f", "strict": true, "parameters": {"type": "object",
        "properties": {"n": {"type": "integer"}}, "required": ["n"]}}},
       {"type": "function", "function": {"name": "g"}}])";

// One text that matches a format of a structural tag, as its model would write it.
std::string Example(const Json& format) {
  const std::string type = format["type"];
  std::string text;
  if (type == "const_string") return format["value"];
  if (type == "any_text") return "hm";
  if (type == "optional") return Example(format["content"]);
  if (type == "regex")
    return format["pattern"].get<std::string>().starts_with("[0-9]") ? "0" : "\n";
  if (type == "json_schema") {
    const std::string style = format.value("style", "json");
    if (style == "qwen_xml") return "<parameter=n>1</parameter>";
    if (style == "glm_xml") return "<arg_key>n</arg_key><arg_value>1</arg_value>";
    return R"({"n": 1})";
  }
  if (type == "tag") {
    text = Example(format["content"]);
    return format["begin"].get<std::string>() + text + format["end"].get<std::string>();
  }
  if (type == "sequence") {
    for (const auto& element : format["elements"]) text += Example(element);
    return text;
  }
  if (type == "tags_with_separator") {
    for (const auto& tag : format["tags"]) {
      if (!text.empty()) text += format["separator"];
      text += Example(tag);
      if (format["stop_after_first"]) break;
    }
    return text;
  }
  EXPECT_EQ(type, "triggered_tags");
  for (const auto& tag : format["tags"]) {
    EXPECT_TRUE(
        tag["begin"].get<std::string>().starts_with(format["triggers"][0].get<std::string>()))
        << tag;
  }
  return "Well:\n" + Example(format["tags"][0]);
}

ReplyText ParseExample(const ReplyFormat& format, const std::string& grammar, bool inside) {
  ReplyParser::Options options;
  options.format = ForcedFormat(format);
  options.tools_enabled = true;
  options.begins_in_reasoning = inside;
  options.parameter_types = *ParameterTypes::Read(kTools);
  return ParseReply(options, Example(Json::parse(grammar)["format"]));
}

class ToolGrammarTest : public testing::TestWithParam<ReplyFormat> {};

TEST_P(ToolGrammarTest, WhatItAllowsIsReadAsThoseCalls) {
  for (const bool inside : {false, true}) {
    ToolGrammarOptions options = {.choice = Choice::kRequired,
                                  .begins_in_reasoning = inside,
                                  .may_reason = GetParam().reasoning != ReasoningFormat::kNone};
    const auto grammar = ToolCallGrammar(GetParam(), kTools, options);
    ASSERT_TRUE(grammar.ok()) << grammar.status();
    const ReplyText reply = ParseExample(GetParam(), *grammar, inside);
    ASSERT_GE(reply.calls.size(), 1u) << *grammar;
    EXPECT_EQ(reply.calls[0], (ReplyText::Call{"f", R"({"n": 1})"}));
    EXPECT_EQ(reply.calls.size(), GetParam().tools == ToolFormat::kHarmony ? 1u : 2u);
    EXPECT_EQ(reply.content, "");
    EXPECT_EQ(reply.reasoning, GetParam().reasoning == ReasoningFormat::kNone ? "" : "hm");
  }
}

TEST_P(ToolGrammarTest, ANamedToolIsCalledOnce) {
  const auto grammar = ToolCallGrammar(GetParam(), kTools, {.choice = Choice::kNamed, .name = "g"});
  ASSERT_TRUE(grammar.ok()) << grammar.status();
  const ReplyText reply = ParseExample(GetParam(), *grammar, false);
  ASSERT_EQ(reply.calls.size(), 1u) << *grammar;
  EXPECT_EQ(reply.calls[0].name, "g");
  EXPECT_THAT(*grammar, HasSubstr(R"("stop_after_first":true)"));
}

TEST_P(ToolGrammarTest, FreeTextKeepsToTheSchemaOnceACallBegins) {
  const auto grammar = ToolCallGrammar(GetParam(), kTools, {.choice = Choice::kAuto});
  ASSERT_TRUE(grammar.ok()) << grammar.status();
  if (ForcedFormat(GetParam()).tools != GetParam().tools) {
    EXPECT_EQ(*grammar, "");
    return;
  }
  const ReplyText reply = ParseExample(GetParam(), *grammar, false);
  ASSERT_GE(reply.calls.size(), 1u) << *grammar;
  EXPECT_EQ(reply.calls[0].name, "f");
}

std::vector<ReplyFormat> SampleFormats() {
  std::vector<ReplyFormat> formats = {{}};
  for (const SampleReply& sample : SampleReplies()) {
    if (std::find(formats.begin(), formats.end(), sample.format) == formats.end()) {
      formats.push_back(sample.format);
    }
  }
  return formats;
}

INSTANTIATE_TEST_SUITE_P(Formats, ToolGrammarTest, testing::ValuesIn(SampleFormats()),
                         [](const auto& instance) {
                           return std::string(NameOf(instance.param.tools)) + "_" +
                                  std::to_string(instance.index);
                         });

TEST(ToolGrammarInputTest, WhatIsWrongIsNamed) {
  const auto message = [](std::string_view tools, const ToolGrammarOptions& options) {
    return std::string(ToolCallGrammar({}, tools, options).status().message());
  };
  EXPECT_EQ(message("[]", {}), "tools is not an array with a tool in it");
  EXPECT_EQ(message("{", {}), "tools is not an array with a tool in it");
  EXPECT_EQ(message("[1]", {}), "tools[0].function is not an object");
  EXPECT_THAT(message(R"([{"function": {"name": "a b"}}])", {}),
              HasSubstr("tools[0].function.name"));
  EXPECT_EQ(message(R"([{"function": {"name": "a", "parameters": 1}}])", {}),
            "tools[0].function.parameters is not an object");
  EXPECT_EQ(message(kTools, {.choice = Choice::kNamed, .name = "h"}),
            "tool_choice names \"h\", which is none of the tools");
}

TEST(ToolGrammarInputTest, NothingIsForcedWithoutAStrictTool) {
  const auto grammar =
      ToolCallGrammar({ToolFormat::kHermes, ReasoningFormat::kNone},
                      R"([{"function": {"name": "a"}}])", {.choice = Choice::kAuto});
  ASSERT_TRUE(grammar.ok());
  EXPECT_EQ(*grammar, "");
}

TEST(AfterReasoningTest, ContentFollowsThoughtsThatAreUnderWay) {
  const std::string content = R"({"type":"regex","pattern":"a+"})";
  const ReplyFormat thinks{.reasoning = ReasoningFormat::kThinkTags};
  const auto tag = nlohmann::json::parse(AfterReasoning(thinks, content));
  ASSERT_EQ(tag["format"]["type"], "sequence");
  EXPECT_EQ(tag["format"]["elements"].back(), nlohmann::json::parse(content));
  EXPECT_NE(tag["format"]["elements"][0].dump().find("</think>"), std::string::npos);
  EXPECT_EQ(nlohmann::json::parse(AfterReasoning({}, content))["format"],
            nlohmann::json::parse(content));
}

}  // namespace
}  // namespace mea
