#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "tests/engine/text/reply/reply_harness.h"

namespace mea {
namespace {

using Call = ReplyText::Call;
using testing::ElementsAre;
using testing::IsEmpty;

// How a format writes calls; what every format has to do is tried on all of them.
struct FormatCase {
  ToolFormat format;
  // One call of f with s = `text` as the format writes that string, and its arguments as JSON.
  std::string (*call)(const std::string& name, const std::string& arguments);
  std::string before;
  std::string between;
  std::string after;
  std::string arguments;              // as the format writes them, for call()
  std::string json;                   // what comes out
  std::string no_arguments;           // likewise, of none
  std::vector<std::string> no_calls;  // texts that only look like calls
};

void PrintTo(const FormatCase& format, std::ostream* out) { *out << NameOf(format.format); }

std::string JsonCall(const std::string& name, const std::string& arguments) {
  return "{\"name\": \"" + name + "\", \"arguments\": " + arguments + "}";
}
std::string HermesCall(const std::string& name, const std::string& arguments) {
  return "<tool_call>\n" + JsonCall(name, arguments) + "\n</tool_call>";
}
std::string LlamaCall(const std::string& name, const std::string& arguments) {
  return "{\"name\": \"" + name + "\", \"parameters\": " + arguments + "}";
}
std::string PythonCall(const std::string& name, const std::string& arguments) {
  return name + "(" + arguments + ")";
}

const char kJson[] =
    R"({"s": "a \"}]{[<\\ \u00e9 </tool_call>", "o": {"k": [1, {"d": null}]}, "x": -1.5e3})";
const char kPython[] =
    R"(s='a "}]{[<\\ \u00e9 </tool_call>', o={'k': [1, {'d': None}], 't': (True, False)}, x=-1.5e3,)";
const char kPythonJson[] =
    "{\"s\": \"a \\\"}]{[<\\\\ \u00e9 </tool_call>\", \"o\": {\"k\": [1, {\"d\": null}], \"t\": "
    "[true, "
    "false]}, \"x\": -1.5e3}";
const char kQwen[] =
    "<parameter=s>\na \"}]{[<\\ \u00e9 </tool_call>\n\n</parameter>\n<parameter=n>7</parameter>\n"
    "<parameter=b>True</parameter>\n<parameter=o>\n{\"k\": [1]}\n</parameter>\n"
    "<parameter=maybe>null</parameter>\n<parameter=unknown>7</parameter>\n";
const char kQwenJson[] =
    "{\"s\": \"a \\\"}]{[<\\\\ \u00e9 </tool_call>\\n\", \"n\": 7, \"b\": true, \"o\": {\"k\": "
    "[1]}, "
    "\"maybe\": null, \"unknown\": \"7\"}";

std::vector<FormatCase> Formats() {
  std::vector<FormatCase> cases = {
      {ToolFormat::kHermes,
       HermesCall,
       "",
       "\n",
       "",
       kJson,
       kJson,
       "{}",
       {"<tool", "use <tool_call> tags", "<tool_call>\n{\"name\": \"f\"}\n</tool_call>"}},
      {ToolFormat::kLlama3Json,
       LlamaCall,
       "",
       "; ",
       "",
       kJson,
       kJson,
       "{}",
       {"{\"answer\": 42}", "{}", "{\"name\": \"f\"}", "{ x", "{\"name\": \"f\", \"age\": {}}"}},
      {ToolFormat::kLlama3Json,
       LlamaCall,
       "<|python_tag|>",
       ";",
       "",
       kJson,
       kJson,
       "{}",
       {"<|python_tag|>print(1)", "<|python_tag", "<|python_tag|>f.call(q=\"1\")"}},
      {ToolFormat::kPythonic,
       PythonCall,
       "[",
       ", ",
       "]",
       kPython,
       kPythonJson,
       "",
       {"[1] a", "[a](b)", "[f(1)]", "[f(a=b)]", "[f(a=1", "[]", "[f(a=1]", "[f(a=[1)]",
        "[f(a='x)]", "[see (this)]", "[note(that x)]"}},
      {ToolFormat::kMistral,
       JsonCall,
       "[TOOL_CALLS][",
       ", ",
       "]",
       kJson,
       kJson,
       "{}",
       {"[TOOL_CALLS]", "[TOOL", "[TOOL_CALLS][]", "[TOOL_CALLS] f", "[TOOL_CALLS][{\"x\": 1}]",
        "[TOOL_CALLS]f[ARGS]1"}},
      {ToolFormat::kMistralV11,
       [](const std::string& name, const std::string& arguments) {
         return "[TOOL_CALLS]" + name + "[ARGS]" + arguments;
       },
       "",
       "",
       "",
       kJson,
       kJson,
       "{}",
       {"[TOOL_CALLS]", "[TOOL_CALLS]f", "[TOOL_CALLS]f[ARGS]", "[TOOL_CALLS]what is it{}"}},
      {ToolFormat::kDeepSeekV3,
       [](const std::string& name, const std::string& arguments) {
         return "<｜tool▁call▁begin｜>function<｜tool▁sep｜>" + name + "\n```json\n" + arguments +
                "\n```<｜tool▁call▁end｜>";
       },
       "<｜tool▁calls▁begin｜>",
       "\n",
       "<｜tool▁calls▁end｜>",
       kJson,
       kJson,
       "{}",
       {"<｜tool▁calls▁begin｜> x", "<｜tool▁call▁begin｜>", "<｜tool▁calls▁begin｜>",
        "<｜tool▁call▁begin｜>f\n```json\n{}\n```"}},
      {ToolFormat::kDeepSeekV31,
       [](const std::string& name, const std::string& arguments) {
         return "<｜tool▁call▁begin｜>" + name + "<｜tool▁sep｜>" + arguments +
                "<｜tool▁call▁end｜>";
       },
       "<｜tool▁calls▁begin｜>",
       "",
       "<｜tool▁calls▁end｜>",
       kJson,
       kJson,
       "{}",
       {"<｜tool▁calls▁begin｜>\n", "<｜tool▁call▁begin｜>f<｜tool▁sep｜>x",
        "<｜tool▁call▁begin｜>a b<｜tool▁sep｜>{}"}},
      {ToolFormat::kQwen3Coder,
       [](const std::string& name, const std::string& arguments) {
         return "<tool_call>\n<function=" + name + ">\n" + arguments + "</function>\n</tool_call>";
       },
       "",
       "\n",
       "",
       kQwen,
       kQwenJson,
       "",
       {"<tool_call>", "<function=f", "<function=a b>", "<tool_call>{\"name\": \"f\"}</tool_call>",
        "<tool_call><function=f>x"}},
      {ToolFormat::kQwen3Coder,
       [](const std::string& name, const std::string& arguments) {
         return "<function=" + name + ">" + arguments + "</function>";
       },
       "",
       "",
       "",
       kQwen,
       kQwenJson,
       "",
       {}},
      {ToolFormat::kSeedOss,
       [](const std::string& name, const std::string& arguments) {
         return "<seed:tool_call>\n<function=" + name + ">\n" + arguments +
                "</function>\n</seed:tool_call>";
       },
       "",
       "\n",
       "",
       kQwen,
       kQwenJson,
       "",
       {"<seed:tool_call> f", "<function=f></function>"}},
      {ToolFormat::kGlm,
       [](const std::string& name, const std::string& arguments) {
         return "<tool_call>" + name + "\n" + arguments + "</tool_call>";
       },
       "",
       "\n",
       "",
       "<arg_key>s</arg_key>\n<arg_value>a \"}]{[<\\\n\u00e9 </tool_call></arg_value>\n"
       "<arg_key>n</arg_key><arg_value>7</arg_value>",
       "{\"s\": \"a \\\"}]{[<\\\\\\n\u00e9 </tool_call>\", \"n\": 7}",
       "",
       {"<tool_call> is a tag", "<tool_call>f<b", "<tool_call>f <arg_value>"}},
      {ToolFormat::kKimiK2,
       [](const std::string& name, const std::string& arguments) {
         return "<|tool_call_begin|>functions." + name + ":3<|tool_call_argument_begin|>" +
                arguments + "<|tool_call_end|>";
       },
       "<|tool_calls_section_begin|>",
       "",
       "<|tool_calls_section_end|>",
       kJson,
       kJson,
       "{}",
       {"<|tool_calls_section_begin|>", "<|tool_call_begin|>functions.f:0"}},
      {ToolFormat::kGranite,
       JsonCall,
       "<|tool_call|> [",
       ", ",
       "]",
       kJson,
       kJson,
       "{}",
       {"<|tool_call|>", "<tool_call> x", "<|tool_call|>{}"}},
      {ToolFormat::kCohere,
       [](const std::string& name, const std::string& arguments) {
         return "{\"tool_call_id\": \"0\", \"tool_name\": \"" + name +
                "\", \"parameters\": " + arguments + "}";
       },
       "<|START_ACTION|>[\n    ",
       ",\n    ",
       "\n]<|END_ACTION|>",
       kJson,
       kJson,
       "{}",
       {"<|START_ACTION|>", "<|START_ACTION|>[]"}},
      {ToolFormat::kApertus,
       [](const std::string& name, const std::string& arguments) {
         return "{\"" + name + "\": " + arguments + "}";
       },
       "<|tools_prefix|>[",
       ", ",
       "]<|tools_suffix|>",
       kJson,
       kJson,
       "{}",
       {"<|tools_prefix|>[{}]", "<|tools_prefix|>[{\"f\": 1}]", "<|tools_prefix|>[{\"a b\": {}}]"}},
      {ToolFormat::kLfm2,
       PythonCall,
       "<|tool_call_start|>[",
       ", ",
       "]<|tool_call_end|>",
       kPython,
       kPythonJson,
       "",
       {"[f()]", "<|tool_call_start|>f()"}},
      {ToolFormat::kFunctionary,
       [](const std::string& name, const std::string& arguments) {
         return "<function=" + name + ">" + arguments + "</function>";
       },
       "",
       "",
       "",
       kJson,
       kJson,
       "{}",
       {"<function=f", "<function=f>x", "<function=>{}"}},
      {ToolFormat::kGemma4,
       [](const std::string& name, const std::string& arguments) {
         return "<|tool_call>call:" + name + "{" + arguments + "}<tool_call|>";
       },
       "",
       "",
       "",
       "s:<|\"|>a \"}]{[<\\\n\u00e9<|\"|>,o:{k:[1,{d:null}],<|\"|>q<|\"|>:bare word},x:-1.5e3",
       "{\"s\": \"a \\\"}]{[<\\\\\\n\u00e9\", \"o\": {\"k\": [1, {\"d\": null}], \"q\": \"bare "
       "word\"}, \"x\": -1.5e3}",
       "",
       {"<|tool_call>f{}", "<|tool_call>call:{}", "<|tool_call>call:f{x}", "<|tool_call>call:f"}},
  };
  return cases;
}

class CallFormatTest : public testing::TestWithParam<FormatCase> {
 protected:
  ReplyText Parse(const std::string& text) const {
    ReplyParser::Options options = WithTools(GetParam().format);
    options.parameter_types = TestParameterTypes();
    return ParseReply(options, text);
  }
  // The text of calls with these arguments.
  std::string Calls(const std::vector<std::pair<std::string, std::string>>& calls) const {
    std::string text = GetParam().before;
    for (size_t i = 0; i < calls.size(); ++i) {
      if (i > 0) text += GetParam().between;
      text += GetParam().call(calls[i].first, calls[i].second);
    }
    return text + GetParam().after;
  }
  bool needs_beginning() const {
    const ToolFormat format = GetParam().format;
    return format == ToolFormat::kPythonic;
  }
};

TEST_P(CallFormatTest, ReadsOneCall) {
  const ReplyText reply = Parse(Calls({{"f", GetParam().arguments}}));
  EXPECT_EQ(reply.content, "");
  EXPECT_THAT(reply.calls, ElementsAre(Call{"f", GetParam().json}));
  EXPECT_TRUE(nlohmann::json::accept(GetParam().json)) << GetParam().json;
}

TEST_P(CallFormatTest, ReadsCallsSideBySideAndWithoutArguments) {
  const FormatCase& format = GetParam();
  const ReplyText reply = Parse(Calls(
      {{"f", format.no_arguments}, {"f", format.arguments}, {"get-it_2", format.no_arguments}}));
  EXPECT_EQ(reply.content, "");
  EXPECT_THAT(reply.calls,
              ElementsAre(Call{"f", "{}"}, Call{"f", format.json}, Call{"get-it_2", "{}"}));
}

TEST_P(CallFormatTest, TextAroundCallsIsContent) {
  const std::string calls = Calls({{"f", GetParam().arguments}});
  const std::string before = needs_beginning() ? "" : "First <this>.\n";
  const ReplyText reply = Parse(before + calls + "\nThen \"that\"");
  EXPECT_THAT(reply.calls, ElementsAre(Call{"f", GetParam().json}));
  EXPECT_EQ(reply.content, needs_beginning() ? "Then \"that\"" : "First <this>.\nThen \"that\"");
}

TEST_P(CallFormatTest, WhatOnlyLooksLikeACallIsContent) {
  for (const std::string& text : GetParam().no_calls) {
    const ReplyText reply = Parse(text);
    EXPECT_EQ(reply.content, text);
    EXPECT_THAT(reply.calls, IsEmpty()) << text;
  }
}

TEST_P(CallFormatTest, ReasoningGoesBefore) {
  ReplyParser::Options options = WithTools(GetParam().format, ReasoningFormat::kThinkTags);
  options.parameter_types = TestParameterTypes();
  const ReplyText reply =
      ParseReply(options, "<think>\nwhy\n</think>\n\n" + Calls({{"f", GetParam().arguments}}));
  EXPECT_EQ(reply.reasoning, "why");
  EXPECT_EQ(reply.content, "");
  EXPECT_THAT(reply.calls, ElementsAre(Call{"f", GetParam().json}));
}

INSTANTIATE_TEST_SUITE_P(Formats, CallFormatTest, testing::ValuesIn(Formats()),
                         [](const auto& instance) {
                           return std::string(NameOf(instance.param.format)) + "_" +
                                  std::to_string(instance.index);
                         });

TEST(CallFormatsTest, TheModelsOwnIdsAreKept) {
  EXPECT_THAT(ParseReply(WithTools(ToolFormat::kKimiK2),
                         "<|tool_call_begin|>functions.f:12<|tool_call_argument_begin|>{}")
                  .ids,
              ElementsAre("functions.f:12"));
  EXPECT_THAT(
      ParseReply(WithTools(ToolFormat::kMistralV11), "[TOOL_CALLS]f[CALL_ID]abc123XYZ[ARGS]{}").ids,
      ElementsAre("abc123XYZ"));
}

TEST(CallFormatsTest, LlamaBeginsACallAtTheBeginningOfALineOnly) {
  const auto options = WithTools(ToolFormat::kLlama3Json);
  const std::string call = R"({"name": "f", "parameters": {}})";
  EXPECT_THAT(ParseReply(options, "So:\n" + call + "\n" + call).calls,
              ElementsAre(Call{"f", "{}"}, Call{"f", "{}"}));
  for (const std::string& text :
       {"So: " + call, "{\"a\": " + call + "}", "{\n  \"a\": " + call + "}"}) {
    EXPECT_EQ(ParseReply(options, text).content, text);
  }
}

TEST(CallFormatsTest, MistralWritesOneCallWithoutBracketsAndNamesBeforeBraces) {
  const auto options = WithTools(ToolFormat::kMistral);
  EXPECT_THAT(ParseReply(options, "[TOOL_CALLS] {\"name\": \"f\"}").calls,
              ElementsAre(Call{"f", "{}"}));
  EXPECT_THAT(ParseReply(options, "[TOOL_CALLS]f{\"n\": 1}[TOOL_CALLS]g{}").calls,
              ElementsAre(Call{"f", R"({"n": 1})"}, Call{"g", "{}"}));
}

TEST(CallFormatsTest, StringsOfXmlStreamAndAreCutOffAsJsonIs) {
  ReplyParser::Options options = WithTools(ToolFormat::kQwen3Coder);
  options.parameter_types = TestParameterTypes();
  ReplyParser parser(options);
  ReplyDelta delta = parser.Push("<tool_call><function=f><parameter=s>\nab\n</para");
  ASSERT_EQ(delta.tool_calls.size(), 1u);
  EXPECT_EQ(delta.tool_calls[0].arguments, "{\"s\": \"ab");
  delta = parser.Finish();
  ASSERT_EQ(delta.tool_calls.size(), 1u);
  EXPECT_EQ(delta.tool_calls[0].arguments, "\\n</para");
}

ReplyText Harmony(std::string_view text, bool tools = true) {
  ReplyParser::Options options = WithTools(ToolFormat::kHarmony, ReasoningFormat::kHarmony);
  options.tools_enabled = tools;
  return ParseReply(options, text);
}

TEST(HarmonyTest, ChannelsTellReasoningContentAndCallsApart) {
  const ReplyText reply = Harmony(
      "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>commentary<|message|>I "
      "look.<|end|><|start|>assistant to=functions.f<|channel|>commentary json<|message|> {\"n\": "
      "1}\n"
      "<|call|><|start|>assistant<|channel|>commentary to=functions.g <|constrain|>json<|message|>"
      "<|call|>");
  EXPECT_EQ(reply.reasoning, "hm");
  EXPECT_EQ(reply.content, "I look.");
  EXPECT_THAT(reply.calls, ElementsAre(Call{"f", R"({"n": 1})"}, Call{"g", "{}"}));
}

TEST(HarmonyTest, TheFirstHeaderMayGoOnFromThePrompt) {
  EXPECT_THAT(Harmony(" to=functions.f<|channel|>commentary json<|message|>{}<|call|>").calls,
              ElementsAre(Call{"f", "{}"}));
  EXPECT_EQ(Harmony("<|channel|>final<|message|>hi<|return|>").content, "hi");
  EXPECT_EQ(Harmony("<|channel|>final <|constrain|>json<|message|>{}").content, "{}");
}

TEST(HarmonyTest, TextWithoutMarksIsContent) {
  EXPECT_EQ(Harmony("a <|b|> <|chan").content, "a <|b|> <|chan");
  EXPECT_EQ(Harmony("<|chan").content, "<|chan");
  const std::string text = "<|channel|>" + std::string(100000, 'x');
  EXPECT_EQ(Harmony(text).content, text);
}

TEST(HarmonyTest, WithoutToolsACallIsContent) {
  EXPECT_EQ(Harmony("<|channel|>commentary to=functions.f<|message|>{}<|call|>", false).content,
            "{}");
}

}  // namespace
}  // namespace mea
