#include "server/access/key_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"

namespace mea::testing {
namespace {

using ::testing::HasSubstr;

const std::string kHash(64, 'a');

std::string Line(const std::string& more = "", const std::string& name = "alice",
                 const std::string& hash = kHash) {
  return absl::StrCat(R"({"name": ")", name, R"(", "rights": ["inference"], "sha256": ")", hash,
                      "\"", more, "}");
}

std::string KeyFileRefusal(const std::string& text) {
  const auto keys = ParseKeyFile(text);
  EXPECT_FALSE(keys.ok());
  return std::string(keys.status().message());
}

TEST(KeyFileTest, ALineIsReadAsItWasWritten) {
  ApiKey key{.name = "a.b-c_1",
             .hash = HashOf("token"),
             .limits = {.requests_per_minute = 60, .kv_cache_bytes = int64_t{5} << 30}};
  key.rights = {true, false, true};
  const auto keys = ParseKeyFile(KeyFileLine(key));
  ASSERT_TRUE(keys.ok()) << keys.status();
  ASSERT_EQ(keys->size(), 1u);
  const ApiKey& read = keys->front();
  EXPECT_EQ(read.name, key.name);
  EXPECT_EQ(read.rights, key.rights);
  EXPECT_EQ(read.hash, key.hash);
  EXPECT_EQ(read.limits.requests_per_minute, 60);
  EXPECT_EQ(read.limits.tokens_per_minute, 0);
  EXPECT_EQ(read.limits.kv_cache_bytes, int64_t{5} << 30);
}

TEST(KeyFileTest, EmptyLinesAndNotesAreSkippedAndCounted) {
  EXPECT_EQ(ParseKeyFile("# who\n\n" + Line() + "\r\n")->size(), 1u);
  EXPECT_THAT(KeyFileRefusal("# who\n\nnothing\n"), HasSubstr("line 3: is not a JSON object"));
}

TEST(KeyFileTest, WhatIsWrongIsNamed) {
  const std::pair<std::string, const char*> cases[] = {
      {"", "holds no key; mea key new NAME makes one"},
      {"{}", "line 1: name is not set"},
      {R"({"name": "a", "rights": []})", "sha256 is not set"},
      {Line("", "a b"), "name 'a b' is not 1..64 letters"},
      {Line("", std::string(65, 'a')), "is not 1..64 letters"},
      {Line("", "alice", "abc"), "sha256 is not 64 hexadecimal digits"},
      {Line("", "alice", std::string(64, 'g')), "sha256 is not 64 hexadecimal digits"},
      {Line(R"(, "limit": 3)"), "limit is not a field of a key"},
      {Line(R"(, "requests_per_minute": 0)"), "requests_per_minute is not an integer of 1.."},
      {Line(R"(, "tokens_per_minute": 1.5)"), "tokens_per_minute is not an integer of 1.."},
      {Line(R"(, "kv_cache_bytes": 1e99)"), "kv_cache_bytes is not an integer of 1.."},
      {R"({"name": "a", "rights": ["root"], "sha256": ")" + kHash + "\"}",
       "rights has 'root', there are inference, control, metrics"},
      {R"({"name": "a", "rights": [1], "sha256": ")" + kHash + "\"}", "what is no string"},
      {R"({"name": "a", "rights": [], "sha256": ")" + kHash + "\"}", "not a list of rights"},
      {Line() + "\n" + Line("", "alice", std::string(64, 'b')), "line 2: name 'alice' was there"},
      {Line() + "\n" + Line("", "bob"), "line 2: sha256 was there before"},
  };
  for (const auto& [text, problem] : cases) {
    EXPECT_THAT(KeyFileRefusal(text), HasSubstr(problem)) << text;
  }
}

TEST(KeyFileTest, ManyKeysAreTooMany) {
  std::string text;
  for (int i = 0; i <= 1000; ++i) {
    const std::string number = absl::StrCat(1000 + i);
    absl::StrAppend(&text, Line("", "k" + number, std::string(60, '0') + number), "\n");
  }
  EXPECT_THAT(KeyFileRefusal(text), HasSubstr("line 1001: more than 1000 keys"));
}

}  // namespace
}  // namespace mea::testing
