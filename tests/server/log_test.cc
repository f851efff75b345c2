#include "server/log.h"

#include <gmock/gmock.h>
#include <google/protobuf/stubs/logging.h>
#include <grpc/support/log.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "server/library_log.h"
#include "tests/server/server_fixture.h"

namespace mea::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::IsEmpty;
using ::testing::MatchesRegex;

// What a log of these options writes.
std::vector<std::string> LinesOf(const LogOptions& options,
                                 const std::function<void(Log&)>& write) {
  LogLines lines;
  {
    Log log(options, lines.Writer());
    write(log);
  }
  return lines.lines();
}

TEST(LogTest, ALineIsTimeLevelEventAndFields) {
  const auto lines = LinesOf({}, [](Log& log) {
    log.Write(LogLevel::kInfo, "request finished",
              {{"id", "req-1"}, {"tokens", int64_t{7}}, {"total_ms", absl::Microseconds(1300)}});
  });
  EXPECT_THAT(lines, ElementsAre(MatchesRegex(
                         "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3}Z "
                         "info request finished id=req-1 tokens=7 total_ms=1\\.3")));
}

TEST(LogTest, JsonHoldsTheSame) {
  const auto lines = LinesOf({.format = LogFormat::kJson}, [](Log& log) {
    log.Write(LogLevel::kWarning, "request refused",
              {{"id", "a \"b\"\n"}, {"tokens", int64_t{7}}, {"total_ms", absl::Seconds(2)}});
  });
  ASSERT_EQ(lines.size(), 1u);
  const auto line = nlohmann::json::parse(lines[0]);
  EXPECT_EQ(line["level"], "warning");
  EXPECT_EQ(line["event"], "request refused");
  EXPECT_EQ(line["id"], "a \"b\"\n");
  EXPECT_EQ(line["tokens"], 7);
  EXPECT_EQ(line["total_ms"], 2000.0);
  EXPECT_THAT(line["time"].get<std::string>(), EndsWith("Z"));
}

TEST(LogTest, NoValueLooksLikeAnotherFieldOrLine) {
  const auto lines = LinesOf({}, [](Log& log) {
    log.Write(LogLevel::kInfo, "e", {{"v", "a status=OK"}});
    log.Write(LogLevel::kInfo, "e", {{"v", ""}});
    log.Write(LogLevel::kInfo, "e", {{"v", "a\nb\x1b[0m\xff\"%v{}"}});
    log.Write(LogLevel::kInfo, "e", {{"v", std::string(10'000, 'x')}});
  });
  ASSERT_EQ(lines.size(), 4u);
  EXPECT_THAT(lines[0], EndsWith(" e v=\"a status=OK\""));
  EXPECT_THAT(lines[1], EndsWith(" e v=\"\""));
  EXPECT_THAT(lines[2], EndsWith(" e v=\"a\\nb\\u001b[0m\\ufffd\\\"%v{}\""));
  EXPECT_THAT(lines[3],
              EndsWith(absl::StrCat(" e v=\"", std::string(kMaxLogValueBytes, 'x'), "\"")));
}

TEST(LogTest, OnlyTheLevelAndWhatIsWorseIsWritten) {
  constexpr LogLevel kLevels[] = {LogLevel::kTrace, LogLevel::kDebug, LogLevel::kInfo,
                                  LogLevel::kWarning, LogLevel::kError};
  const auto write_all = [&](Log& log) {
    for (const LogLevel level : kLevels) log.Write(level, "e");
  };
  for (size_t least = 0; least < std::size(kLevels); ++least) {
    EXPECT_EQ(LinesOf({.level = kLevels[least]}, write_all).size(), std::size(kLevels) - least);
  }
  EXPECT_THAT(LinesOf({.level = LogLevel::kOff}, write_all), IsEmpty());
}

TEST(LogTest, AWriterThatHangsHoldsNobodyUpAndDropsAreTold) {
  LogLines lines;
  absl::Notification writing, go_on;
  const auto keep = lines.Writer();
  {
    Log log({.max_queued_lines = 4}, [&](std::string_view line) {
      if (!writing.HasBeenNotified()) writing.Notify();
      go_on.WaitForNotification();
      keep(line);
    });
    log.Write(LogLevel::kInfo, "first");
    writing.WaitForNotification();
    for (int i = 0; i < 10; ++i) log.Write(LogLevel::kInfo, "more", {{"i", int64_t{i}}});
    EXPECT_EQ(log.num_dropped(), 6);
    go_on.Notify();
  }
  // Four waited; of the ten the six oldest had to go.
  EXPECT_THAT(lines.lines(),
              ElementsAre(EndsWith(" info first"), EndsWith(" warning log lines dropped count=6"),
                          EndsWith(" i=6"), EndsWith(" i=7"), EndsWith(" i=8"), EndsWith(" i=9")));
}

TEST(LibraryLogTest, WhatLibrariesComplainOfIsALineOfTheLog) {
  LibraryLog::Silence();
  const auto lines = LinesOf({}, [](Log& log) {
    const LibraryLog libraries(log);
    gpr_log(GPR_ERROR, "Failed %s", "accept4");
    GOOGLE_LOG(WARNING) << "odd message";
  });
  EXPECT_THAT(lines,
              ElementsAre(EndsWith(" warning library library=grpc message=\"Failed accept4\""),
                          EndsWith(" warning library library=protobuf message=\"odd message\"")));
}

TEST(LibraryLogTest, FloodIsCutAndNobodyHearsWhatComesAfterTheLog) {
  LibraryLog::Silence();
  const auto lines = LinesOf({}, [](Log& log) {
    const LibraryLog libraries(log);
    for (int i = 0; i < 1000; ++i) gpr_log(GPR_ERROR, "again");
  });
  EXPECT_GE(lines.size(), 10u);
  EXPECT_LT(lines.size(), 100u);
  gpr_log(GPR_ERROR, "late");
}

}  // namespace
}  // namespace mea::testing
