// No reply takes quadratic time, whatever it is: here that would be minutes, not seconds.
#include <gtest/gtest.h>

#include "tests/engine/text/reply/reply_harness.h"

namespace mea {
namespace {

constexpr size_t kReplyBytes = 50'000;
constexpr size_t kPieceBytes = 5;

// What came of a reply, by size: nothing may be said twice.
size_t BytesOfReply(const ReplyParser::Options& options, const std::string& text) {
  ReplyParser parser(options);
  size_t bytes = 0;
  const auto count = [&](const ReplyDelta& delta) {
    bytes += delta.content.size() + delta.reasoning.size();
    for (const ToolCallDelta& call : delta.tool_calls) bytes += call.arguments.size();
  };
  for (size_t at = 0; at < text.size(); at += kPieceBytes) {
    count(parser.Push(std::string_view(text).substr(at, kPieceBytes)));
  }
  count(parser.Finish());
  return bytes;
}

TEST(ReplyWorkTest, LongRepliesTakeNoQuadraticTime) {
  std::vector<ReplyFormat> formats;
  for (int i = 0; i <= static_cast<int>(ToolFormat::kHarmony); ++i) {
    const auto tools = static_cast<ToolFormat>(i);
    formats.push_back({tools, ReasoningFormat::kThinkTags});
    if (tools == ToolFormat::kHarmony) formats.push_back({tools, ReasoningFormat::kHarmony});
  }
  for (const ReplyFormat& format : formats) {
    std::vector<std::string> units = {" ", "<", "{\n", "[f(", "</think>", "a=1,", "\"", "\\"};
    for (const std::string& marker : MarkerTokens(format)) {
      units.push_back(marker);
      units.push_back(marker.substr(0, marker.size() - 1));
      units.push_back(marker + "\n");
    }
    // What a call begins with, and then the same for ever.
    for (const std::string begin :
         {"", "<tool_call>", "<tool_call>{\"arguments\": \"", "[f(a='", "<function=f><parameter=a>",
          "<tool_call>f\n<arg_key>a</arg_key><arg_value>", "<|tool_call>call:f{",
          "[TOOL_CALLS]f[ARGS]{"}) {
      for (const std::string& unit : units) {
        std::string text = begin;
        while (text.size() < kReplyBytes) text += unit;
        EXPECT_LE(BytesOfReply(WithTools(format.tools, format.reasoning), text), 2 * text.size());
      }
    }
  }
}

}  // namespace
}  // namespace mea
