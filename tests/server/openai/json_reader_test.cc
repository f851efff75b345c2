#include "server/openai/json_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/field_error.h"

namespace mea::openai {
namespace {

TEST(JsonReaderTest, NullIsAsGoodAsAbsent) {
  absl::Status complaint;
  const Json object = {{"a", nullptr}};
  JsonReader reader(object, &complaint);
  EXPECT_FALSE(reader.Int("a"));
  EXPECT_FALSE(reader.String("b"));
  EXPECT_TRUE(complaint.ok());
}

TEST(JsonReaderTest, FirstComplaintStaysAndNamesThePath) {
  absl::Status complaint;
  const Json object = {{"a", {{"b", 1}}}, {"c", "x"}};
  JsonReader reader(object, &complaint);
  const Json* a = reader.Object("a");
  ASSERT_NE(a, nullptr);
  reader.Inside(*a, "a").String("b");
  reader.Int("c");
  EXPECT_EQ(FieldOf(complaint), "a.b");
  EXPECT_EQ(complaint.message(), "a.b is 1; a string is expected");
}

TEST(JsonReaderTest, WholeNumbersMayBeWrittenAsFractions) {
  absl::Status complaint;
  const Json object = {{"a", 3.0}, {"b", 3.5}, {"c", 1e300}};
  JsonReader reader(object, &complaint);
  EXPECT_EQ(reader.Int("a"), 3);
  EXPECT_TRUE(complaint.ok());
  EXPECT_FALSE(reader.Int("b"));
  EXPECT_FALSE(complaint.ok());
  EXPECT_FALSE(reader.Int("c"));
}

TEST(JsonReaderTest, LongValuesAreNotRepeated) {
  absl::Status complaint;
  const Json object = {{"a", std::string(10000, 'x')}};
  JsonReader reader(object, &complaint);
  reader.Int("a");
  EXPECT_LT(complaint.message().size(), 200u);
}

TEST(JsonReaderTest, DeepBodiesAreRefused) {
  std::string deep = "{\"a\":";
  for (int i = 0; i < 100000; ++i) deep += '[';
  EXPECT_THAT(std::string(ParseBody(deep).status().message()), ::testing::HasSubstr("deeper than"));
}

TEST(JsonReaderTest, BodiesThatWouldTakeLongToParseAreRefused) {
  std::string objects = "{\"x\":[";
  for (int i = 0; i < 1'000'000; ++i) objects += "{},";
  EXPECT_THAT(std::string(ParseBody(objects + "1]}").status().message()),
              ::testing::HasSubstr("lists and objects"));
  std::string keys = "{";
  for (int i = 0; i < 100'000; ++i) keys += "\"" + std::to_string(i) + "\":1,";
  EXPECT_THAT(std::string(ParseBody(keys + "\"x\":1}").status().message()),
              ::testing::HasSubstr("too many keys"));
  // Colons and brackets inside strings are none.
  const std::string text = "{\"x\": \"" + std::string(300'000, '[') + "\\\":" + "\"}";
  EXPECT_TRUE(ParseBody(text).ok());
}

}  // namespace
}  // namespace mea::openai
