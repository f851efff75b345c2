#include "engine/storage/files.h"

#include <gtest/gtest.h>

#include <fstream>

#include "engine/storage/safetensors.h"
#include "tests/support/checkpoint_writer.h"

namespace mea {
namespace {

namespace fs = std::filesystem;

TEST(FilesTest, APointerOfGitLfsIsNotTakenForTheFile) {
  const testing::TempDir dir;
  const fs::path file = dir.path() / "model.safetensors";
  std::ofstream(file) << "version https://git-lfs.github.com/spec/v1\noid sha256:1f\nsize 9\n";
  const std::string refusal =
      file.string() + ": is a pointer of git-lfs, not the file itself; git lfs pull fetches it";
  EXPECT_EQ(ReadTextFile(file).status().message(), refusal);
  EXPECT_EQ(SafeTensors::Open(dir.path()).status().message(), refusal);
}

TEST(FilesTest, ALinkThatLeadsNowhereIsNamedWithWhereItLeads) {
  const testing::TempDir dir;
  for (const char* name : {"model.safetensors", "model.safetensors.index.json"}) {
    const fs::path file = dir.path() / name;
    fs::create_symlink("../blobs/1f", file);
    const std::string refusal =
        file.string() + ": is a symbolic link to ../blobs/1f, which is not there";
    EXPECT_EQ(ReadTextFile(file).status().message(), refusal);
    EXPECT_EQ(SafeTensors::Open(dir.path()).status().message(), refusal);
    fs::remove(file);
  }
}

TEST(FilesTest, WhatIsNoRegularFileIsRefused) {
  const testing::TempDir dir;
  EXPECT_EQ(ReadTextFile(dir.path()).status().message(),
            dir.path().string() + ": expected a regular file");
  const std::string absent = (dir.path() / "absent").string();
  EXPECT_EQ(ReadTextFile(absent).status().message(),
            absent + ": cannot open: No such file or directory");
}

}  // namespace
}  // namespace mea
