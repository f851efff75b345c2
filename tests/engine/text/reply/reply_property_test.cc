#include <algorithm>
#include <random>

#include "tests/engine/text/reply/reply_harness.h"

namespace mea {
namespace {

ReplyParser::Options OptionsOf(const ReplyFormat& format) {
  ReplyParser::Options options = WithTools(format.tools, format.reasoning);
  options.parameter_types = TestParameterTypes();
  return options;
}

std::vector<std::string_view> RandomPieces(std::string_view text, std::mt19937& random) {
  std::vector<std::string_view> pieces;
  while (!text.empty()) {
    const size_t size = std::min<size_t>(1 + random() % 8, text.size());
    pieces.push_back(text.substr(0, size));
    text.remove_prefix(size);
  }
  return pieces;
}

// Random pieces of the samples, so that markers meet where they should not.
std::string RandomReply(const std::vector<SampleReply>& samples, ToolFormat format,
                        std::mt19937& random) {
  std::vector<const std::string*> texts;
  for (const SampleReply& sample : samples) {
    if (sample.format.tools == format) texts.push_back(&sample.text);
  }
  std::string text;
  const int num_pieces = 1 + static_cast<int>(random() % 12);
  for (int i = 0; i < num_pieces; ++i) {
    const std::string& sample = random() % 4 == 0 ? samples[random() % samples.size()].text
                                                  : *texts[random() % texts.size()];
    text += sample.substr(random() % sample.size(), random() % 40);
    if (random() % 3 == 0) text += "<>{}[]()\"'\\ \n;:,=ab1"[random() % 21];
  }
  return text;
}

TEST(ReplyPropertyTest, WhereATextIsCutChangesNothing) {
  for (const SampleReply& sample : SampleReplies()) {
    for (const bool inside : {false, true}) {
      ReplyParser::Options options = OptionsOf(sample.format);
      options.begins_in_reasoning = inside;
      const std::string_view text = sample.text;
      const ReplyText whole = ParseReply(options, text);
      for (size_t cut = 0; cut <= text.size(); ++cut) {
        ASSERT_EQ(ParsePieces(options, {text.substr(0, cut), text.substr(cut)}), whole) << text;
      }
      std::vector<std::string_view> bytes;
      for (size_t i = 0; i < text.size(); ++i) bytes.push_back(text.substr(i, 1));
      ASSERT_EQ(ParsePieces(options, bytes), whole) << text;
    }
  }
}

TEST(ReplyPropertyTest, RandomTextsNeitherBreakItNorDependOnCuts) {
  const auto samples = SampleReplies();
  constexpr unsigned kSeed = 20261130;
  std::mt19937 random(kSeed);
  for (int round = 0; round < 4000; ++round) {
    const SampleReply& sample = samples[random() % samples.size()];
    ReplyParser::Options options = OptionsOf(sample.format);
    options.begins_in_reasoning = random() % 4 == 0;
    options.tools_enabled = random() % 8 != 0;
    const std::string text = RandomReply(samples, sample.format.tools, random);
    ASSERT_EQ(ParsePieces(options, RandomPieces(text, random)), ParseReply(options, text))
        << "seed " << kSeed << " round " << round << ": " << text;
  }
}

TEST(ReplyPropertyTest, WithoutAFormatOrToolsEveryByteIsContent) {
  const auto samples = SampleReplies();
  std::mt19937 random(5);
  for (int round = 0; round < 500; ++round) {
    const SampleReply& sample = samples[random() % samples.size()];
    const std::string text = " \n" + RandomReply(samples, sample.format.tools, random) + " \n";
    ReplyParser::Options none;
    none.tools_enabled = true;
    EXPECT_EQ(ParsePieces(none, RandomPieces(text, random)).content, text);
    ReplyParser::Options no_tools;
    if (sample.format.tools == ToolFormat::kHarmony) continue;  // its marks frame content too
    no_tools.format.tools = sample.format.tools;
    EXPECT_EQ(ParsePieces(no_tools, RandomPieces(text, random)).content, text);
  }
}

TEST(ReplyPropertyTest, TextWithoutACallLosesNoByte) {
  const auto samples = SampleReplies();
  std::mt19937 random(6);
  int num_without = 0;
  for (int round = 0; round < 4000; ++round) {
    const SampleReply& sample = samples[random() % samples.size()];
    if (sample.format.tools == ToolFormat::kHarmony) continue;
    const std::string text = RandomReply(samples, sample.format.tools, random);
    const ReplyText reply = ParseReply(WithTools(sample.format.tools), text);
    if (!reply.calls.empty()) continue;
    ++num_without;
    EXPECT_EQ(reply.content, text);
  }
  EXPECT_GT(num_without, 1000);
}

TEST(ReplyPropertyTest, ACutReplyHasABeginningOfTheWholeOnesArguments) {
  for (const SampleReply& sample : SampleReplies()) {
    const ReplyParser::Options options = OptionsOf(sample.format);
    const ReplyText whole = ParseReply(options, sample.text);
    for (size_t size = 0; size < sample.text.size(); ++size) {
      const ReplyText cut = ParseReply(options, std::string_view(sample.text).substr(0, size));
      ASSERT_LE(cut.calls.size(), whole.calls.size());
      for (size_t i = 0; i < cut.calls.size(); ++i) {
        EXPECT_EQ(cut.calls[i].name, whole.calls[i].name);
        EXPECT_EQ(cut.ids[i], whole.ids[i]);
        // A value that is no string follows when it is whole; cut off, it stands as it is.
        if (sample.format.tools == ToolFormat::kQwen3Coder ||
            sample.format.tools == ToolFormat::kSeedOss ||
            sample.format.tools == ToolFormat::kGlm) {
          continue;
        }
        // So is the beginning of the mark behind a call.
        if (sample.format.tools == ToolFormat::kHarmony && size > sample.text.find("\n<|call|>")) {
          continue;
        }
        EXPECT_TRUE(whole.calls[i].arguments.starts_with(cut.calls[i].arguments))
            << sample.text << " at " << size;
      }
    }
  }
}

TEST(ReplyPropertyTest, EveryDeltaOfWholeCodePointsIsWholeCodePoints) {
  for (const SampleReply& sample : SampleReplies()) {
    ReplyParser parser(OptionsOf(sample.format));
    std::string_view text = sample.text;
    while (!text.empty()) {
      size_t size = 1;
      while (size < text.size() && (text[size] & 0xc0) == 0x80) ++size;
      const ReplyDelta delta = parser.Push(text.substr(0, size));
      text.remove_prefix(size);
      for (const std::string* out : {&delta.content, &delta.reasoning}) {
        EXPECT_TRUE(out->empty() || (out->front() & 0xc0) != 0x80) << sample.text;
      }
      for (const auto& call : delta.tool_calls) {
        EXPECT_TRUE(call.arguments.empty() || (call.arguments.front() & 0xc0) != 0x80);
      }
    }
  }
}

}  // namespace
}  // namespace mea
