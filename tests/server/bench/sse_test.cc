#include "server/bench/sse.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

namespace mea {
namespace {

using ::testing::ElementsAre;

std::vector<std::string> Read(const std::vector<std::string>& pieces) {
  SseReader reader;
  std::vector<std::string> events;
  for (const std::string& piece : pieces) {
    reader.Feed(piece, [&](std::string_view data) { events.emplace_back(data); });
  }
  return events;
}

TEST(SseTest, EventsDoNotDependOnWhereTheBytesAreTorn) {
  const std::string stream =
      ": a comment\n\ndata: {\"a\": 1}\n\nevent: x\r\ndata:second\r\ndata: line\r\n\r\nid: "
      "4\rdata\r"
      "\rdata: [DONE]\n\n";
  const std::vector<std::string> expected = {"{\"a\": 1}", "second\nline", "", "[DONE]"};
  EXPECT_EQ(Read({stream}), expected);
  for (size_t i = 0; i <= stream.size(); ++i) {
    for (size_t j = i; j <= stream.size(); ++j) {
      ASSERT_EQ(Read({stream.substr(0, i), stream.substr(i, j - i), stream.substr(j)}), expected)
          << i << ", " << j;
    }
  }
}

TEST(SseTest, EventIsToldByTheBytesThatCompleteIt) {
  EXPECT_THAT(Read({"data: a\n"}), ElementsAre());
  EXPECT_THAT(Read({"data: a\n", "\n"}), ElementsAre("a"));
  EXPECT_THAT(Read({"data: a\r\n\r"}), ElementsAre("a"));
}

TEST(SseTest, OnlyOneSpaceBelongsToTheField) {
  EXPECT_THAT(Read({"data:  a\n\n"}), ElementsAre(" a"));
  EXPECT_THAT(Read({"database: a\n\n"}), ElementsAre());
}

}  // namespace
}  // namespace mea
