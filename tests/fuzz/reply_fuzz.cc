// The text of a reply for each format: deltas add up to the same however it is cut.
#include <string>
#include <vector>

#include "engine/text/reply/reply_parser.h"
#include "engine/text/utf8.h"
#include "tests/fuzz/fuzz.h"

namespace {

mea::ReplyDelta ReadWhole(const mea::ReplyParser::Options& options, std::string_view text) {
  mea::ReplyParser parser(options);
  mea::ReplyDelta all = parser.Push(text);
  all.Append(parser.Finish());
  return all;
}

// Cut behind every `step`-th code point.
mea::ReplyDelta ReadCut(const mea::ReplyParser::Options& options, std::string_view text,
                        size_t step) {
  mea::ReplyParser parser(options);
  mea::ReplyDelta all;
  size_t begin = 0;
  size_t count = 0;
  for (size_t i = 1; i <= text.size(); ++i) {
    const bool whole = i == text.size() || (static_cast<unsigned char>(text[i]) & 0xC0) != 0x80;
    if (!whole || ++count % step != 0) continue;
    mea::ReplyDelta piece = parser.Push(text.substr(begin, i - begin));
    mea::fuzz::Require(mea::IsValidUtf8(piece.content) && mea::IsValidUtf8(piece.reasoning),
                       "deltas are UTF-8");
    all.Append(std::move(piece));
    begin = i;
  }
  all.Append(parser.Push(text.substr(begin)));
  all.Append(parser.Finish());
  return all;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  mea::fuzz::Input input(data, size);
  mea::ReplyParser::Options options;
  options.format.tools =
      static_cast<mea::ToolFormat>(input.Choose(static_cast<size_t>(mea::ToolFormat::kLast) + 1));
  options.format.reasoning = static_cast<mea::ReasoningFormat>(
      input.Choose(static_cast<size_t>(mea::ReasoningFormat::kLast) + 1));
  const size_t bits = input.Choose(16);
  options.tools_enabled = (bits & 1) != 0;
  options.parallel = (bits & 2) != 0;
  options.begins_in_reasoning = (bits & 4) != 0;
  options.only_calls = (bits & 8) != 0;
  const std::string_view text = input.Rest();
  if (!mea::IsValidUtf8(text)) return 0;  // what the parser is given always is
  const mea::ReplyDelta whole = ReadWhole(options, text);
  for (const size_t step : {1, 3}) {
    const mea::ReplyDelta cut = ReadCut(options, text, step);
    mea::fuzz::Require(cut.content == whole.content && cut.reasoning == whole.reasoning &&
                           cut.tool_calls == whole.tool_calls,
                       "what deltas add up to does not depend on the cuts");
  }
  if (!options.tools_enabled && !options.only_calls &&
      options.format.reasoning == mea::ReasoningFormat::kNone &&
      options.format.tools != mea::ToolFormat::kHarmony) {
    mea::fuzz::Require(whole.content == text, "without formats all is content");
  }
  return 0;
}
