#pragma once

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

#include "engine/text/reply/reply_parser.h"

namespace mea {

// One reply as its deltas add up.
struct ReplyText {
  struct Call {
    std::string name;
    std::string arguments;
    bool operator==(const Call&) const = default;
    friend void PrintTo(const Call& call, std::ostream* out) {
      *out << call.name << " [" << call.arguments << "]";
    }
  };
  std::string content;
  std::string reasoning;
  std::vector<Call> calls;
  std::vector<std::string> ids;

  bool operator==(const ReplyText&) const = default;

  // Checks that a delta goes on where the last one ended.
  void Add(const ReplyDelta& delta) {
    content += delta.content;
    reasoning += delta.reasoning;
    for (const ToolCallDelta& piece : delta.tool_calls) {
      if (piece.index == static_cast<int>(calls.size())) {
        EXPECT_FALSE(piece.id.empty());
        EXPECT_FALSE(piece.name.empty());
        calls.push_back({piece.name, piece.arguments});
        ids.push_back(piece.id);
        continue;
      }
      ASSERT_EQ(piece.index, static_cast<int>(calls.size()) - 1);
      EXPECT_EQ(piece.id, "");
      EXPECT_EQ(piece.name, "");
      calls.back().arguments += piece.arguments;
    }
  }
};

inline void PrintTo(const ReplyText& reply, std::ostream* out) {
  *out << "content [" << reply.content << "] reasoning [" << reply.reasoning << "]";
  for (const auto& call : reply.calls)
    *out << " call " << call.name << " [" << call.arguments << "]";
}

// The reply to a text that comes in `pieces`.
inline ReplyText ParsePieces(const ReplyParser::Options& options,
                             const std::vector<std::string_view>& pieces) {
  ReplyParser parser(options);
  ReplyText reply;
  for (const std::string_view piece : pieces) reply.Add(parser.Push(piece));
  reply.Add(parser.Finish());
  EXPECT_EQ(parser.has_tool_calls(), !reply.calls.empty());
  return reply;
}

inline ReplyText ParseReply(const ReplyParser::Options& options, std::string_view text) {
  return ParsePieces(options, {text});
}

inline ReplyParser::Options WithTools(ToolFormat tools,
                                      ReasoningFormat reasoning = ReasoningFormat::kNone) {
  ReplyParser::Options options;
  options.format = {tools, reasoning};
  options.tools_enabled = true;
  options.id_seed = 7;
  return options;
}

// Types of the parameters that the tests use.
ParameterTypes TestParameterTypes();

// One text of each format with reasoning, content and calls; what the properties are tried on.
struct SampleReply {
  ReplyFormat format;
  std::string text;
};
std::vector<SampleReply> SampleReplies();

}  // namespace mea
