#include "engine/eval/kv_formats.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/load.h"

namespace mea {
namespace {

using ::testing::HasSubstr;

TEST(KvFormatsTest, AreThoseOfTheServer) {
  const std::vector<KvFormat> formats = ParseKvFormats("f32,int8").value();
  ASSERT_EQ(formats.size(), 2u);
  EXPECT_EQ(formats[0].name, "f32");
  EXPECT_EQ(formats[1].name, "int8");
  EXPECT_TRUE(formats[1].dtype == ParseKvDType("int8").value());
  for (const KvFormat& format : CompactKvFormats()) {
    EXPECT_TRUE(format.dtype == ParseKvDType(format.name).value());
  }
  EXPECT_EQ(CompactKvFormats()[0].name, "int8");
}

// Whether the server takes it or not, a pair is looked up as one.
TEST(KvFormatsTest, APairOfKeysAndValuesIsOneFormat) {
  const absl::StatusOr<std::vector<KvFormat>> formats = ParseKvFormats("int8,k=int8,v=none,bf16");
  EXPECT_THAT(formats.status().message(), HasSubstr("\"k=int8,v=none\" is none of bf16, "));
}

TEST(KvFormatsTest, WhatTheServerDoesNotKnowIsNamed) {
  EXPECT_THAT(ParseKvFormats("int8,q8_0").status().message(), HasSubstr("\"q8_0\" is none of "));
  EXPECT_THAT(ParseKvFormats("").status().message(), HasSubstr("\"\" is none of "));
  EXPECT_THAT(ParseKvFormats("int8,").status().message(), HasSubstr("\"\" is none of "));
  EXPECT_THAT(ParseKvFormats("v=int8").status().message(), HasSubstr("\"v=int8\" is none of "));
}

}  // namespace
}  // namespace mea
