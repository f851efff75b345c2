#include "engine/device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"

namespace mea {
namespace {

using ::testing::ElementsAre;
using ::testing::EndsWith;

TEST(DeviceTest, GpusAreNamedByTheirNumbers) {
  EXPECT_EQ(ParseDevice("auto")->kind, "auto");
  EXPECT_EQ(ParseDevice("cpu")->kind, "cpu");
  EXPECT_THAT(ParseDevice("cuda")->gpus, ElementsAre(0));
  EXPECT_THAT(ParseDevice("cuda:3")->gpus, ElementsAre(3));
  EXPECT_EQ(ParseDevice("cuda:1,0")->kind, "cuda");
  EXPECT_THAT(ParseDevice("cuda:1,0")->gpus, ElementsAre(1, 0));
}

TEST(DeviceTest, AnythingElseIsRefusedInOneLine) {
  for (const auto& [device, why] : std::vector<std::pair<std::string, std::string>>{
           {"gpu", "is none of auto, cpu, cuda, cuda:0, cuda:0,1"},
           {"cpu:0", "is none of auto, cpu, cuda, cuda:0, cuda:0,1"},
           {"cuda:", "is not cuda: and the numbers of GPUs, as cuda:0,1"},
           {"cuda:0,", "is not cuda: and the numbers of GPUs, as cuda:0,1"},
           {"cuda:-1", "is not cuda: and the numbers of GPUs, as cuda:0,1"},
           {"cuda:0,cpu", "is not cuda: and the numbers of GPUs, as cuda:0,1"},
           {"cuda:99999999999", "is not cuda: and the numbers of GPUs, as cuda:0,1"},
           {"cuda:0,1,0", "names GPU 0 twice"}}) {
    const absl::Status status = ParseDevice(device).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << device;
    EXPECT_EQ(status.message(), absl::StrCat("--device \"", device, "\" ", why));
  }
  std::string many = "cuda:0";
  for (int gpu = 1; gpu < 65; ++gpu) absl::StrAppend(&many, ",", gpu);
  EXPECT_THAT(std::string(ParseDevice(many).status().message()),
              EndsWith("names 65 GPUs, the most is 64"));
}

}  // namespace
}  // namespace mea
