// A conversion that is stopped anywhere leaves nothing under the final name, and goes on from
// there.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>

#include <fcntl.h>
#include <unistd.h>

#include "tests/engine/convert/convert_harness.h"

namespace mea::convert {
namespace {

namespace fs = std::filesystem;
using testing::ConvertHarness;
using ::testing::HasSubstr;

TEST(ResumeTest, StoppedAnywhereItLeavesNothingAndThenWritesTheSameBytes) {
  for (const bool by_budget : {false, true}) {
    SCOPED_TRACE(by_budget ? "by budget" : "by heads");
    ConvertHarness harness;
    harness.WriteInput(ConvertHarness::PlainSpec());
    ConvertOptions options = harness.Options();
    options.heal = true;
    if (!by_budget) options.key_heads = options.value_heads = {2};

    int num_steps = 0;
    options.progress = [&](const Progress&) {
      ++num_steps;
      return absl::OkStatus();
    };
    options.out = harness.path("whole");
    ASSERT_TRUE(Convert(options).ok());
    const auto expected = testing::FilesIn(options.out);
    const int steps_of_all = num_steps;
    ASSERT_GT(steps_of_all, 10);

    // Every run is stopped at its second step, so that it gets a little further than the last.
    options.out = harness.path("out");
    int num_runs = 0;
    absl::StatusOr<ConvertReport> report = absl::UnknownError("");
    for (; !report.ok() && num_runs < 500; ++num_runs) {
      const int allowed = 1 + num_runs / 2;
      num_steps = 0;
      options.progress = [&](const Progress&) {
        return ++num_steps > allowed ? absl::CancelledError("stopped") : absl::OkStatus();
      };
      ASSERT_FALSE(fs::exists(options.out));
      report = Convert(options);
      if (!report.ok()) {
        ASSERT_EQ(report.status().message(), "stopped");
      }
    }
    ASSERT_TRUE(report.ok());
    EXPECT_GT(num_runs, 5);
    EXPECT_EQ(testing::FilesIn(options.out), expected);
    EXPECT_FALSE(fs::exists(harness.path("out.partial")));
  }
}

TEST(ResumeTest, WorkOfAnotherConversionIsNotUsed) {
  ConvertHarness harness;
  harness.WriteInput(ConvertHarness::PlainSpec());
  ConvertOptions options = harness.Options();
  options.key_heads = options.value_heads = {2};
  options.progress = [](const Progress& p) {
    return p.stage == "writing" ? absl::CancelledError("stopped") : absl::OkStatus();
  };
  ASSERT_FALSE(Convert(options).ok());
  options.progress = {};
  options.value_heads = {1};
  const absl::Status status = Convert(options).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("value_heads is [2] there, [1] here"));

  options.value_heads = {2};
  harness.WriteInput(ConvertHarness::PlainSpec(), /*seed=*/2);
  EXPECT_THAT(std::string(Convert(options).status().message()), HasSubstr("input is"));
}

TEST(ResumeTest, DamagedWorkIsDoneAgain) {
  ConvertHarness harness;
  harness.WriteInput(ConvertHarness::PlainSpec());
  ConvertOptions options = harness.Options();
  options.key_heads = options.value_heads = {2};
  options.out = harness.path("whole");
  ASSERT_TRUE(Convert(options).ok());
  const auto expected = testing::FilesIn(options.out);

  options.out = harness.path("out");
  options.progress = [](const Progress& p) {
    return p.stage == "writing" ? absl::CancelledError("stopped") : absl::OkStatus();
  };
  ASSERT_FALSE(Convert(options).ok());
  const fs::path solved = harness.path("out.partial") / "layer-1.keys-2.solved";
  testing::WriteText(solved, testing::ReadText(solved).substr(0, 40));
  options.progress = {};
  ASSERT_TRUE(Convert(options).ok());
  EXPECT_EQ(testing::FilesIn(options.out), expected);
}

TEST(ResumeTest, OneProcessAtATime) {
  ConvertHarness harness;
  harness.WriteInput(ConvertHarness::PlainSpec());
  fs::create_directory(harness.path("out.partial"));
  const int other = open(harness.path("out.partial").c_str(), O_RDONLY | O_DIRECTORY);
  ASSERT_EQ(flock(other, LOCK_EX), 0);
  ConvertOptions options = harness.Options();
  EXPECT_THAT(std::string(Convert(options).status().message()),
              HasSubstr("is in use by another process"));
  close(other);
}

TEST(ResumeTest, SomebodyElsesDirectoryIsLeftAlone) {
  ConvertHarness harness;
  harness.WriteInput(ConvertHarness::PlainSpec());
  fs::create_directory(harness.path("out.partial"));
  testing::WriteText(harness.path("out.partial") / "thesis.tex", "x");
  EXPECT_THAT(std::string(Convert(harness.Options()).status().message()),
              HasSubstr("has no manifest.json"));
  EXPECT_TRUE(fs::exists(harness.path("out.partial") / "thesis.tex"));
}

}  // namespace
}  // namespace mea::convert
