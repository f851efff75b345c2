#include "engine/checkpoint/hub_cache.h"

#include <gtest/gtest.h>

#include <fstream>

#include "tests/support/checkpoint_writer.h"

namespace mea {
namespace {

namespace fs = std::filesystem;

class HubCacheTest : public ::testing::Test {
 protected:
  HubCacheTest() : repository_(temp_.path() / "models--acme--tiny-1b") {
    for (const char* hash : {"aaa", "bbb"})
      fs::create_directories(repository_ / "snapshots" / hash);
    fs::create_directories(repository_ / "refs");
  }

  testing::TempDir temp_;
  const fs::path repository_;
};

TEST_F(HubCacheTest, TheSnapshotOfMainIsTaken) {
  std::ofstream(repository_ / "refs/main") << "bbb\n";
  EXPECT_EQ(SnapshotOf(repository_).value(), repository_ / "snapshots/bbb");
  EXPECT_EQ(CheckpointName(repository_ / "snapshots/bbb"), "acme/tiny-1b");
}

TEST_F(HubCacheTest, TheOnlySnapshotNeedsNoName) {
  fs::remove(repository_ / "snapshots/bbb");
  EXPECT_EQ(SnapshotOf(repository_).value(), repository_ / "snapshots/aaa");
}

TEST_F(HubCacheTest, SeveralSnapshotsWithoutMainAreRefused) {
  std::ofstream(repository_ / "refs/main") << "ccc";
  EXPECT_EQ(SnapshotOf(repository_).status().message(),
            repository_.string() +
                ": expected one snapshot, or refs/main to name it, found 2 in snapshots/");
}

TEST_F(HubCacheTest, AnyOtherDirectoryIsLeftAlone) {
  const fs::path plain = temp_.path() / "plain";
  EXPECT_EQ(SnapshotOf(plain).value(), plain);  // that it is not there is for others to say
  fs::create_directories(plain / "snapshots/1");
  std::ofstream(plain / "config.json") << "{}";
  EXPECT_EQ(SnapshotOf(plain).value(), plain);
  EXPECT_EQ(CheckpointName(plain), "plain");
  EXPECT_EQ(CheckpointName(plain / "."), "plain");
  EXPECT_EQ(CheckpointName(plain / ""), "plain");
}

TEST_F(HubCacheTest, ALinkIsNamedAsItWasTyped) {
  const fs::path plain = temp_.path() / "plain";
  fs::create_directories(plain / "inside");
  const fs::path link = temp_.path() / "link";
  fs::create_directory_symlink(plain, link);
  EXPECT_EQ(CheckpointName(link), "link");
  EXPECT_EQ(CheckpointName(link / ""), "link");
  EXPECT_EQ(CheckpointName(link / "."), "plain");
  EXPECT_EQ(CheckpointName(link / "inside/.."), "plain");
  // The name of a snapshot is a hash, which nobody types as a name.
  fs::create_directory_symlink(repository_, temp_.path() / "repository");
  EXPECT_EQ(CheckpointName(temp_.path() / "repository/snapshots/aaa"), "acme/tiny-1b");
  fs::create_directory_symlink(repository_ / "snapshots/aaa", temp_.path() / "tiny");
  EXPECT_EQ(CheckpointName(temp_.path() / "tiny"), "tiny");
}

}  // namespace
}  // namespace mea
