#include "server/access/access.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/refusal.h"
#include "server/access/key_file.h"
#include "tests/server/access/test_certificates.h"

namespace mea::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// Keys in a file, and a clock that the test sets.
class AccessTest : public ::testing::Test {
 protected:
  void Write(const std::vector<ApiKey>& keys) {
    std::string text;
    for (const ApiKey& key : keys) text += KeyFileLine(key) + "\n";
    files_.Write("keys.jsonl", text);
  }
  std::shared_ptr<Access> Load(const std::vector<ApiKey>& keys) {
    Write(keys);
    auto access = Access::Load(files_.Path("keys.jsonl"), [this] { return now_; });
    EXPECT_TRUE(access.ok()) << access.status();
    return *std::move(access);
  }
  // Its token is "token of NAME".
  static ApiKey Key(const std::string& name, KeyLimits limits = {}) {
    ApiKey key{.name = name, .hash = HashOf("token of " + name), .limits = limits};
    key.rights[static_cast<size_t>(Right::kInference)] = true;
    return key;
  }
  static std::string Bearer(const std::string& name) { return "Bearer token of " + name; }

  const TestFiles files_;
  absl::Time now_ = absl::FromUnixSeconds(1'000'000);
};

TEST_F(AccessTest, WithoutKeysAnybodyMayDoAnything) {
  const Access open;
  EXPECT_TRUE(open.Check("", Right::kControl).ok());
  EXPECT_EQ(*open.Admit(""), nullptr);
}

TEST_F(AccessTest, AFileWithoutKeysIsRefused) {
  for (const char* text : {"", "\n", "# none yet\n"}) {
    const std::string path = files_.Write("keys.jsonl", text);
    EXPECT_EQ(Access::Load(path).status().message(),
              path + ": holds no key; mea key new NAME makes one");
  }
}

TEST_F(AccessTest, EachKeyIsKnownWhereverItStands) {
  const auto access = Load({Key("a"), Key("b"), Key("c")});
  for (const char* name : {"a", "b", "c"}) {
    EXPECT_TRUE(access->Check(Bearer(name), Right::kInference).ok()) << name;
  }
  EXPECT_TRUE(access->Check("bearer   token of a ", Right::kInference).ok());
  EXPECT_EQ(access->num_unauthenticated(), 0);
}

TEST_F(AccessTest, WhoShowsNoKeyIsUnauthenticated) {
  const auto access = Load({Key("a")});
  for (const std::string& shown :
       {std::string(), std::string("Bearer"), std::string("Bearer "),
        std::string("Basic token of a"), std::string("token of a"), Bearer("b"), Bearer("a") + "x",
        Bearer("a") + std::string(100'000, ' ') + "x"}) {
    const absl::Status status = access->Check(shown, std::nullopt);
    EXPECT_TRUE(absl::IsUnauthenticated(status)) << status;
    EXPECT_THAT(std::string(status.message()), Not(HasSubstr("token of")));
    EXPECT_TRUE(absl::IsUnauthenticated(access->Admit(shown).status()));
  }
  EXPECT_EQ(access->num_unauthenticated(), 16);
}

TEST_F(AccessTest, AKeyOpensWhatItsRightsSay) {
  ApiKey key = Key("a");
  key.rights = {false, true, false};
  const auto access = Load({key});
  EXPECT_TRUE(access->Check(Bearer("a"), Right::kControl).ok());
  EXPECT_TRUE(access->Check(Bearer("a"), std::nullopt).ok());
  const absl::Status status = access->Check(Bearer("a"), Right::kMetrics);
  EXPECT_TRUE(absl::IsPermissionDenied(status));
  EXPECT_EQ(std::string(status.message()), "key 'a' has no right 'metrics'");
  EXPECT_TRUE(absl::IsPermissionDenied(access->Admit(Bearer("a")).status()));
}

TEST_F(AccessTest, RequestsAMinuteComeBackEvenly) {
  const auto access = Load({Key("a", {.requests_per_minute = 3}), Key("b")});
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(access->Admit(Bearer("a")).ok());
  const absl::Status status = access->Admit(Bearer("a")).status();
  EXPECT_TRUE(absl::IsResourceExhausted(status));
  EXPECT_EQ(RefusalReason(status), "KEY_REQUESTS_PER_MINUTE");
  EXPECT_EQ(RetryDelay(status), absl::Seconds(20));
  EXPECT_TRUE(access->Admit(Bearer("b")).ok()) << "another key";
  now_ += absl::Seconds(19);
  EXPECT_FALSE(access->Admit(Bearer("a")).ok());
  now_ += absl::Seconds(1);
  EXPECT_TRUE(access->Admit(Bearer("a")).ok());
  EXPECT_FALSE(access->Admit(Bearer("a")).ok());
  now_ -= absl::Hours(1);  // a clock that is set back gives nothing, and takes nothing for good
  EXPECT_FALSE(access->Admit(Bearer("a")).ok());
  now_ += absl::Hours(2);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(access->Admit(Bearer("a")).ok());
  EXPECT_FALSE(access->Admit(Bearer("a")).ok()) << "no more than a minute is saved";
}

TEST_F(AccessTest, RequestsAtOnceEndWithTheirCalls) {
  const auto access = Load({Key("a", {.concurrent_requests = 2})});
  auto first = access->Admit(Bearer("a"));
  auto second = access->Admit(Bearer("a"));
  ASSERT_TRUE(first.ok() && second.ok());
  const absl::Status status = access->Admit(Bearer("a")).status();
  EXPECT_EQ(RefusalReason(status), "KEY_CONCURRENT_REQUESTS");
  EXPECT_GT(RetryDelay(status), absl::ZeroDuration());
  EXPECT_EQ(access->usage()[0].num_running, 2);
  first->reset();
  EXPECT_TRUE(access->Admit(Bearer("a")).ok());
}

TEST_F(AccessTest, TokensAreOwedAndPaidBack) {
  const auto access = Load({Key("a", {.tokens_per_minute = 600})});
  {
    KeyShare share(*access->Admit(Bearer("a")));
    ASSERT_TRUE(share.Reserve(500, 0).ok());
    KeyShare other(*access->Admit(Bearer("a")));
    const absl::Status status = other.Reserve(200, 0);
    EXPECT_EQ(RefusalReason(status), "KEY_TOKENS_PER_MINUTE");
    EXPECT_EQ(RetryDelay(status), absl::Seconds(10));
    share.End(/*computed=*/true, 1000);  // 900 are owed
  }
  const absl::Status status = access->Admit(Bearer("a")).status();
  EXPECT_EQ(RefusalReason(status), "KEY_TOKENS_PER_MINUTE");
  EXPECT_GT(*RetryDelay(status), absl::Seconds(90));
  now_ += absl::Seconds(91);
  EXPECT_TRUE(access->Admit(Bearer("a")).ok());
  EXPECT_EQ(access->usage()[0].prompt_tokens, 500);
  EXPECT_EQ(access->usage()[0].completion_tokens, 1000);
}

TEST_F(AccessTest, APromptThatWasNotComputedCostsNothing) {
  const auto access = Load({Key("a", {.tokens_per_minute = 600})});
  for (int i = 0; i < 3; ++i) {
    KeyShare share(*access->Admit(Bearer("a")));
    EXPECT_TRUE(share.Reserve(600, 0).ok()) << i;
  }
  EXPECT_EQ(access->usage()[0].prompt_tokens, 0);
}

TEST_F(AccessTest, APromptOfMoreThanAMinuteWaitsForAWholeOne) {
  const auto access = Load({Key("a", {.tokens_per_minute = 600})});
  KeyShare share(*access->Admit(Bearer("a")));
  EXPECT_TRUE(share.Reserve(5000, 0).ok());
}

TEST_F(AccessTest, CacheMemoryIsSetAsideWhileAPromptLives) {
  const auto access = Load({Key("a", {.kv_cache_bytes = 1000})});
  KeyShare first(*access->Admit(Bearer("a")));
  ASSERT_TRUE(first.Reserve(1, 600).ok());
  KeyShare second(*access->Admit(Bearer("a")));
  EXPECT_EQ(RefusalReason(second.Reserve(1, 600)), "KEY_KV_CACHE_BYTES");
  EXPECT_EQ(access->usage()[0].kv_cache_bytes, 600);
  first.End(true, 1);
  EXPECT_TRUE(second.Reserve(1, 600).ok());
}

TEST_F(AccessTest, MemoryOfAKeyBoundsTheContext) {
  const auto access = Load({Key("a", {.kv_cache_bytes = 1000}), Key("b")});
  const KeyShare share(*access->Admit(Bearer("a")));
  EXPECT_EQ(share.MaxContext(4096, 1, 16, 100), 160);
  EXPECT_EQ(share.MaxContext(4096, 3, 16, 100), 48);
  EXPECT_EQ(share.MaxContext(64, 1, 16, 100), 64);
  EXPECT_EQ(KeyShare(*access->Admit(Bearer("b"))).MaxContext(4096, 1, 16, 100), 4096);
}

TEST_F(AccessTest, AChangedFileChangesWhoMayComeIn) {
  const auto access = Load({Key("a"), Key("b", {.requests_per_minute = 1})});
  const auto call = access->Admit(Bearer("a"));
  EXPECT_TRUE(access->Admit(Bearer("b")).ok());
  EXPECT_FALSE(*access->Refresh());
  Write({Key("b", {.requests_per_minute = 1}), Key("c")});
  EXPECT_TRUE(*access->Refresh());
  EXPECT_TRUE(absl::IsUnauthenticated(access->Check(Bearer("a"), std::nullopt)));
  EXPECT_TRUE(access->Check(Bearer("c"), std::nullopt).ok());
  EXPECT_TRUE(absl::IsResourceExhausted(access->Admit(Bearer("b")).status()))
      << "what was used up stays used";
  EXPECT_EQ(access->usage().size(), 2u);
}

TEST_F(AccessTest, ABrokenFileKeepsWhatWasAndIsToldOnce) {
  const auto access = Load({Key("a")});
  files_.Write("keys.jsonl", "nothing");
  EXPECT_THAT(std::string(access->Refresh().status().message()),
              HasSubstr("keys.jsonl: line 1: is not a JSON object"));
  EXPECT_FALSE(*access->Refresh());
  EXPECT_TRUE(access->Check(Bearer("a"), std::nullopt).ok());
  Write({Key("a")});
  EXPECT_FALSE(*access->Refresh()) << "as before";
}

TEST_F(AccessTest, AFileThatIsNotThereIsNamed) {
  EXPECT_THAT(std::string(Access::Load(files_.Path("nowhere")).status().message()),
              HasSubstr("nowhere: cannot be read: No such file"));
}

}  // namespace
}  // namespace mea::testing
