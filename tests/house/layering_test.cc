// Holds the direction of the rooms over every #include of the repository, and shows on made-up
// files that each rule does find what it forbids.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <iostream>

#include "tests/house/rules.h"

namespace mea::house {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr int kLongFile = 400;  // lines; longer files are named, still longer ones refused

const std::vector<SourceFile>& Repository() {
  static const std::vector<SourceFile> files = ReadRooms(MEA_SOURCE_DIR);
  return files;
}

std::vector<std::string> Including(std::string path, std::string header) {
  return LayeringViolations({std::move(path), "#include " + header + "\n"});
}

TEST(LayeringTest, RepositoryFollowsTheDirectionOfTheRooms) {
  ASSERT_GT(Repository().size(), 20u);
  for (const SourceFile& file : Repository()) EXPECT_THAT(LayeringViolations(file), IsEmpty());
}

TEST(LayeringTest, NoFoldersDependOnEachOther) {
  EXPECT_THAT(FolderCycles(Repository()), IsEmpty());
}

TEST(LayeringTest, FindsFoldersThatDependOnEachOther) {
  const auto file = [](std::string path, const std::string& header) {
    return SourceFile{std::move(path), "#include \"" + header + "\"\n"};
  };
  std::vector<SourceFile> files = {
      file("engine/a/x.h", "engine/b/y.h"), file("engine/b/y.cc", "engine/c/z.h"),
      file("engine/c/z.h", "engine/top.h"), file("engine/top.cc", "engine/a/x.h")};
  EXPECT_THAT(FolderCycles(files), IsEmpty());
  files.push_back(file("engine/c/z.cc", "engine/a/x.h"));
  EXPECT_THAT(FolderCycles(files), ElementsAre("engine/a -> engine/b -> engine/c -> engine/a"));
}

TEST(LayeringTest, EachRoomSeesOnlyWhatLiesBelowIt) {
  EXPECT_THAT(Including("kernels/cpu/attention.cc", "\"kvcache/kv_cache.h\""),
              ElementsAre(HasSubstr("kernels does not depend on it")));
  EXPECT_THAT(Including("kvcache/kv_cache.cc", "\"engine/sequence.h\""),
              ElementsAre(HasSubstr("kvcache does not depend on it")));
  EXPECT_THAT(Including("engine/engine.h", "\"server/config.h\""),
              ElementsAre(HasSubstr("engine does not depend on it")));
  EXPECT_THAT(Including("server/metrics.cc", "\"tests/support/model.h\""),
              ElementsAre(HasSubstr("server does not depend on it")));

  EXPECT_THAT(Including("engine/engine.h", "\"kvcache/kv_cache.h\""), IsEmpty());
  EXPECT_THAT(Including("server/serve.cc", "\"engine/engine.h\""), IsEmpty());
  EXPECT_THAT(Including("server/serve.cc", "\"kernels/human_bytes.h\""), IsEmpty());
  EXPECT_THAT(Including("server/serve.cc", "\"kernels/status_macros.h\""), IsEmpty());
  EXPECT_THAT(Including("server/serve.cc", "\"kernels/tensor.h\""),
              ElementsAre(HasSubstr("server does not depend on it")));
}

TEST(LayeringTest, KvCacheSeesFourHeadersOfKernels) {
  EXPECT_THAT(Including("kvcache/kv_cache.h", "\"kernels/tensor.h\""), IsEmpty());
  EXPECT_THAT(Including("kvcache/kv_cache.h", "\"kernels/backend.h\""),
              ElementsAre(HasSubstr("kvcache does not depend on it")));
}

TEST(LayeringTest, EngineSeesNoProto) {
  EXPECT_THAT(Including("engine/engine.h", "\"mea/v1/inference.pb.h\""),
              ElementsAre(HasSubstr("gRPC and protobuf is not for this room")));
  EXPECT_THAT(Including("engine/engine.cc", "<grpcpp/grpcpp.h>"),
              ElementsAre(HasSubstr("gRPC and protobuf is not for this room")));
}

TEST(LayeringTest, OnlyProtoConvertSeesProtoAndEngineTogether) {
  const std::string both = "#include \"engine/engine.h\"\n#include \"mea/v1/inference.pb.h\"\n";
  EXPECT_THAT(LayeringViolations({"server/proto_convert.cc", both}), IsEmpty());
  EXPECT_THAT(LayeringViolations({"server/serve.cc", both}),
              ElementsAre(HasSubstr("only server/proto_convert sees both")));
}

TEST(LayeringTest, OnlyTheServersLogSeesSpdlog) {
  EXPECT_THAT(Including("server/log.cc", "<spdlog/async_logger.h>"), IsEmpty());
  EXPECT_THAT(Including("server/server.cc", "<spdlog/spdlog.h>"),
              ElementsAre(HasSubstr("logging is not for this room")));
  EXPECT_THAT(Including("engine/engine_loop.cc", "<spdlog/spdlog.h>"),
              ElementsAre(HasSubstr("logging is not for this room")));
}

TEST(LayeringTest, OnlyTheConverterSeesEigen) {
  EXPECT_THAT(Including("engine/convert/apply.cc", "<Eigen/Dense>"), IsEmpty());
  EXPECT_THAT(Including("engine/eval/scores.cc", "<Eigen/Dense>"),
              ElementsAre(HasSubstr("Eigen is not for this room")));
}

TEST(LayeringTest, OnlyTheCudaRoomSeesCuda) {
  EXPECT_THAT(Including("kernels/cuda/backend.cu", "<cuda_runtime.h>"), IsEmpty());
  EXPECT_THAT(Including("kernels/cpu/backend.cc", "<cuda_runtime.h>"),
              ElementsAre(HasSubstr("CUDA is not for this room")));
  EXPECT_THAT(Including("engine/model/model.h", "<cublas_v2.h>"),
              ElementsAre(HasSubstr("CUDA is not for this room")));
}

TEST(LayeringTest, FindsAnIncludeHoweverItIsWritten) {
  EXPECT_THAT(
      LayeringViolations({"kernels/a.cc", "int x;\n  #  include  \"engine/engine.h\" // why\n"}),
      ElementsAre(HasSubstr("engine/engine.h")));
  EXPECT_THAT(Including("kernels/cpu/a.cc", "\"../../engine/engine.h\""),
              ElementsAre(HasSubstr("paths start at the root")));
  EXPECT_THAT(LayeringViolations({"kernels/a.cc", "// the engine/engine.h of #include\n"}),
              IsEmpty());
  EXPECT_THAT(Including("attic/a.cc", "<vector>"), ElementsAre(HasSubstr("is in no room")));
}

TEST(FormTest, RepositoryKeepsItsForm) {
  for (const SourceFile& file : Repository()) {
    EXPECT_THAT(FormViolations(file), IsEmpty());
    const auto lines = std::count(file.text.begin(), file.text.end(), '\n');
    if (lines > kLongFile && !file.path.ends_with(".md")) {
      std::cout << "long: " << file.path << ", " << lines << " lines\n";
    }
  }
}

TEST(FormTest, HeadersNeedPragmaOnce) {
  EXPECT_THAT(FormViolations({"engine/a.h", "int a;\n"}), ElementsAre(HasSubstr("#pragma once")));
  EXPECT_THAT(FormViolations({"engine/a.h", "#pragma once\nint a;\n"}), IsEmpty());
  EXPECT_THAT(FormViolations({"engine/a.cc", "int a;\n"}), IsEmpty());
}

TEST(FormTest, FilesStayShort) {
  EXPECT_THAT(FormViolations({"engine/a.cc", std::string(601, '\n')}),
              ElementsAre(HasSubstr("601 lines")));
  EXPECT_THAT(FormViolations({"engine/a.cc", std::string(600, '\n')}), IsEmpty());
}

TEST(ClockRuleTest, NothingIsTimedByAClockThatCanBeSet) {
  for (const SourceFile& file : Repository()) EXPECT_THAT(ClockViolations(file), IsEmpty());
}

TEST(ClockRuleTest, FindsTheWallClock) {
  EXPECT_THAT(ClockViolations({"server/a.cc", "start = absl::Now();\n"}),
              ElementsAre(HasSubstr("reads the wall clock")));
  EXPECT_THAT(ClockViolations({"engine/a.h", "mu.AwaitWithTimeout(condition, timeout);\n"}),
              ElementsAre(HasSubstr("waits by the wall clock")));
  EXPECT_THAT(ClockViolations({"server/http/connection.cc", "Date(absl::Now());\n"}), IsEmpty());
  EXPECT_THAT(ClockViolations({"server/a.cc", "start = Now();\n"}), IsEmpty());
}

TEST(FormTest, EveryRoomHasAReadme) { EXPECT_THAT(RoomsWithoutReadme(Repository()), IsEmpty()); }

TEST(FormTest, FindsTheRoomWithoutAReadme) {
  const std::vector<SourceFile> files = {{"engine/CMakeLists.txt", ""},
                                         {"engine/README.md", ""},
                                         {"engine/text/CMakeLists.txt", ""},
                                         {"tests/engine/CMakeLists.txt", ""}};
  EXPECT_THAT(RoomsWithoutReadme(files), ElementsAre("engine/text"));
}

}  // namespace
}  // namespace mea::house
