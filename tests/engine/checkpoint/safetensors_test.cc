#include "engine/storage/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "tests/support/checkpoint_writer.h"

namespace mea {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using testing::MakeTensor;
using testing::RawTensor;
using testing::SafeTensorsBytes;
using testing::TempDir;
using testing::WriteText;

std::vector<RawTensor> TwoTensors() {
  return {MakeTensor("a", DType::kF32, {2, 3}, std::vector<float>{1, 2, 3, 4, 5, 6}),
          MakeTensor("b", DType::kBf16, {2}, std::vector<float>{7, 8})};
}

// The message with the directory taken out of it.
std::string MessageIn(const TempDir& dir, const absl::Status& status) {
  return absl::StrReplaceAll(std::string(status.message()), {{dir.path().string() + "/", ""}});
}

TEST(SafeTensorsTest, TensorsAreViewsOfTheFile) {
  TempDir dir;
  testing::WriteSafeTensors(dir.path() / "model.safetensors", TwoTensors());
  std::optional<Tensor> a;
  {
    const auto tensors = SafeTensors::Open(dir.path());
    ASSERT_TRUE(tensors.ok()) << tensors.status();
    EXPECT_EQ(tensors->num_files(), 1);
    EXPECT_EQ(tensors->tensors().size(), 2u);
    EXPECT_EQ(tensors->Find("c"), nullptr);
    const StoredTensor* stored = tensors->Find("a");
    ASSERT_NE(stored, nullptr);
    EXPECT_EQ(stored->dtype, StoredDType::kF32);
    EXPECT_THAT(stored->shape, ElementsAre(2, 3));
    a = MapTensor(*stored).value();
    EXPECT_EQ(a->view().data, stored->data());  // no copy
  }
  // The mapping outlives the reader, and the directory entry.
  fs::remove(dir.path() / "model.safetensors");
  EXPECT_EQ(a->view().row<float>(1)[2], 6.0f);
}

TEST(SafeTensorsTest, MisalignedTensorsAreCopied) {
  TempDir dir;
  std::vector<RawTensor> tensors = {{"flag", "BOOL", {1}, "\x01"}};
  tensors.push_back(TwoTensors()[0]);
  testing::WriteSafeTensors(dir.path() / "model.safetensors", tensors);
  const auto opened = SafeTensors::Open(dir.path());
  ASSERT_TRUE(opened.ok()) << opened.status();
  const StoredTensor* stored = opened->Find("a");
  const auto tensor = MapTensor(*stored);
  ASSERT_TRUE(tensor.ok());
  EXPECT_NE(tensor->view().data, stored->data());
  for (int i = 0; i < 6; ++i) EXPECT_EQ(tensor->view().as<float>()[i], i + 1.0f);
  EXPECT_EQ(MessageIn(dir, MapTensor(*opened->Find("flag")).status()),
            "model.safetensors: \"flag\": expected F32, F16 or BF16, found BOOL");
}

TEST(SafeTensorsTest, EmptyAndScalarTensorsAreTensors) {
  TempDir dir;
  testing::WriteSafeTensors(
      dir.path() / "model.safetensors",
      std::vector<RawTensor>{{"empty", "F32", {0, 4}, ""},
                             MakeTensor("scalar", DType::kF32, {}, std::vector<float>{3})});
  const auto opened = SafeTensors::Open(dir.path());
  ASSERT_TRUE(opened.ok()) << opened.status();
  EXPECT_EQ(MapTensor(*opened->Find("empty"))->view().num_elements(), 0);
  const auto scalar = MapTensor(*opened->Find("scalar"));
  EXPECT_EQ(scalar->view().num_elements(), 1);
  EXPECT_EQ(scalar->view().as<float>()[0], 3.0f);
}

TEST(SafeTensorsTest, ShardsReadAsOneFile) {
  TempDir dir;
  testing::WriteShards(dir.path(), TwoTensors(), 2);
  const auto opened = SafeTensors::Open(dir.path());
  ASSERT_TRUE(opened.ok()) << opened.status();
  EXPECT_EQ(opened->num_files(), 2);
  EXPECT_EQ(MapTensor(*opened->Find("a"))->view().as<float>()[5], 6.0f);
  EXPECT_EQ(ToFloat(MapTensor(*opened->Find("b"))->view().as<Bf16>()[1]), 8.0f);
}

TEST(SafeTensorsTest, ShardsMayBeLinksOutOfTheDirectory) {
  TempDir blobs;
  TempDir dir;
  testing::WriteSafeTensors(blobs.path() / "0123", TwoTensors());
  fs::create_symlink(blobs.path() / "0123", dir.path() / "model.safetensors");
  EXPECT_TRUE(SafeTensors::Open(dir.path()).ok());
}

struct BrokenFile {
  std::string bytes;
  const char* message;
};

TEST(SafeTensorsTest, BrokenFilesAreRefused) {
  const auto file = [](std::string_view header, int data_bytes) {
    return SafeTensorsBytes(header, std::string(data_bytes, '\0'));
  };
  const std::string length_of_max("\xff\xff\xff\xff\xff\xff\xff\xff", 8);
  const std::vector<BrokenFile> broken = {
      {"", "header: expected 8 bytes of length at least, found 0 bytes in the file"},
      {"1234567", "header: expected 8 bytes of length at least, found 7 bytes in the file"},
      {length_of_max + "{}",
       "header: expected at most 2 bytes, as the file has room for, found a length of "
       "18446744073709551615"},
      {SafeTensorsBytes("{}", "").substr(0, 9),
       "header: expected at most 1 bytes, as the file has room for, found a length of 2"},
      {file("", 0), "header: expected JSON that starts with '{', found \"\""},
      {file(" {}", 0), "header: expected JSON that starts with '{', found \" {}\""},
      {file("[]", 0), "header: expected JSON that starts with '{', found \"[]\""},
      {file("{\"a\":", 0), "expected JSON, found an error at byte 6 near \"\\\"a\\\":\""},
      {file("{} {}", 0), "expected JSON, found an error at byte 4 near \"{} {\""},
      {file(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
            R"("a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
            8),
       "expected JSON, found name \"a\" twice"},
      {file(R"({"a":{"dtype":"F32","dtype":"F16","shape":[1],"data_offsets":[0,4]}})", 4),
       "expected JSON, found name \"dtype\" twice"},
      {file(R"({"a":7})", 0), "\"a\": expected an object, found 7"},
      {file(R"({"__metadata__":{"step":1}})", 0),
       "__metadata__: expected an object of strings, found {\"step\":1}"},
      {file(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1}})", 4),
       "\"a\": expected only dtype, shape and data_offsets, found \"x\""},
      {file(R"({"a":{"shape":[1],"data_offsets":[0,4]}})", 4),
       "\"a\": expected dtype one of BOOL, U8, I8, F8_E4M3, F8_E5M2, I16, U16, F16, BF16, I32, "
       "U32, F32, I64, U64, F64, found null"},
      {file(R"({"a":{"dtype":"f32","shape":[1],"data_offsets":[0,4]}})", 4),
       "\"a\": expected dtype one of BOOL, U8, I8, F8_E4M3, F8_E5M2, I16, U16, F16, BF16, I32, "
       "U32, F32, I64, U64, F64, found \"f32\""},
      {file(R"({"a":{"dtype":"F32","data_offsets":[0,4]}})", 4),
       "\"a\": expected shape of at most 4 non-negative integers, found null"},
      {file(R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", 4),
       "\"a\": expected shape of at most 4 non-negative integers, found [-1]"},
      {file(R"({"a":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}})", 4),
       "\"a\": expected shape of at most 4 non-negative integers, found [1.0]"},
      {file(R"({"a":{"dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,4]}})", 4),
       "\"a\": expected shape of at most 4 non-negative integers, found [18446744073709551615]"},
      {file(R"({"a":{"dtype":"F32","shape":[1,1,1,1,1],"data_offsets":[0,4]}})", 4),
       "\"a\": expected shape of at most 4 non-negative integers, found [1,1,1,1,1]"},
      // 2^32 * 2^32 wraps to 0 in 64 bits.
      {file(R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", 0),
       "\"a\": expected shape of less than 2^63 bytes, found [4294967296, 4294967296]"},
      {file(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}})", 4),
       "\"a\": expected data_offsets [begin, end] with 0 <= begin <= end, found [0]"},
      {file(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})", 4),
       "\"a\": expected data_offsets [begin, end] with 0 <= begin <= end, found [4,0]"},
      {file(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}})", 4),
       "\"a\": expected data_offsets [begin, end] with 0 <= begin <= end, found [-4,0]"},
      {file(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", 4),
       "\"a\": expected 8 bytes, as shape [2] of F32 takes, found data_offsets [0,4]"},
      {file(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 3),
       "\"a\": expected data within the file's 3 data bytes, found 4 bytes at 0"},
      {file(R"({"a":{"dtype":"I8","shape":[0],)"
            R"("data_offsets":[9223372036854775807,9223372036854775807]}})",
            4),
       "\"a\": expected data within the file's 4 data bytes, found 0 bytes at "
       "9223372036854775807"},
      {file(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
            R"("b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}})",
            6),
       "\"b\": expected data at 4, where the last tensor ends, found an overlap at 2"},
      {file(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
            R"("b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
            8),
       "\"b\": expected data at 4, where the last tensor ends, found an overlap at 0"},
      {file(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
            R"("b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}})",
            12),
       "\"b\": expected data at 4, where the last tensor ends, found a hole before 8"},
      {file(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 5),
       "data: expected 4 bytes, as the header declares, found 5"},
  };
  for (const BrokenFile& row : broken) {
    TempDir dir;
    WriteText(dir.path() / "model.safetensors", row.bytes);
    const absl::Status status = SafeTensors::Open(dir.path()).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(MessageIn(dir, status), absl::StrCat("model.safetensors: ", row.message));
  }
}

TEST(SafeTensorsTest, NamesEnterMessagesEscapedAndShortened) {
  TempDir dir;
  const std::string name = "line\\nbreak" + std::string(200, 'x');
  WriteText(dir.path() / "model.safetensors",
            SafeTensorsBytes(absl::StrCat("{\"", name, "\":1}"), ""));
  EXPECT_EQ(MessageIn(dir, SafeTensors::Open(dir.path()).status()),
            absl::StrCat("model.safetensors: \"line\\nbreak", std::string(70, 'x'),
                         "...\": expected an object, found 1"));
}

TEST(SafeTensorsTest, BrokenIndicesAreRefused) {
  const std::string first = "model-00001-of-00002.safetensors";
  const std::string second = "model-00002-of-00002.safetensors";
  const auto index = [](const std::string& a, const std::string& b) {
    return absl::StrCat(R"({"weight_map":{"a":)", a, R"(,"b":)", b, "}}");
  };
  const std::string quoted_first = absl::StrCat("\"", first, "\"");
  const std::string quoted_second = absl::StrCat("\"", second, "\"");
  const std::string beside =
      "model.safetensors.index.json: \"b\": expected the name of a .safetensors file beside the "
      "index, found ";
  const std::vector<std::pair<std::string, std::string>> broken = {
      {"{", "model.safetensors.index.json: expected JSON, found an error at byte 2 near \"{\""},
      {"[]", "model.safetensors.index.json: expected a JSON object, found []"},
      {"{}",
       "model.safetensors.index.json: weight_map: expected an object that names a file for each "
       "tensor, found null"},
      {R"({"weight_map":{}})",
       "model.safetensors.index.json: weight_map: expected an object that names a file for each "
       "tensor, found {}"},
      {absl::StrCat(R"({"weight_map":{"a":)", quoted_first, R"(,"a":)", quoted_second, "}}"),
       "model.safetensors.index.json: expected JSON, found name \"a\" twice"},
      {index(quoted_first, "2"), beside + "2"},
      {index(quoted_first, "\"\""), beside + "\"\""},
      {index(quoted_first, "\"../b.safetensors\""), beside + "\"../b.safetensors\""},
      {index(quoted_first, "\"/b.safetensors\""), beside + "\"/b.safetensors\""},
      {index(quoted_first, "\"..\""), beside + "\"..\""},
      {index(quoted_first, "\"config.json\""), beside + "\"config.json\""},
      {index(quoted_first, "\"b\\u0000.safetensors\""), beside + "\"b\\u0000.safetensors\""},
      {index(quoted_first, "\"c.safetensors\""),
       "c.safetensors: cannot open: No such file or directory"},
      {index(quoted_first, quoted_first),
       first + ": \"b\": expected it here as the index says, found no such tensor"},
      {index(quoted_second, quoted_first),
       first + ": \"a\": expected it in " + second + " as the index says, found it here"},
      {absl::StrCat(R"({"weight_map":{"b":)", quoted_first, R"(,"c":)", quoted_second, "}}"),
       first + ": \"a\": expected only tensors that the index lists, found it here"},
  };
  for (const auto& [text, message] : broken) {
    TempDir dir;
    testing::WriteShards(dir.path(), TwoTensors(), 2);
    WriteText(dir.path() / "model.safetensors.index.json", text);
    EXPECT_EQ(MessageIn(dir, SafeTensors::Open(dir.path()).status()), message);
  }
}

TEST(SafeTensorsTest, MissingFilesAreNotFound) {
  TempDir dir;
  const absl::Status status = SafeTensors::Open(dir.path()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(std::string(status.message()),
            dir.path().string() +
                ": expected model.safetensors or model.safetensors.index.json, found neither");
}

TEST(SafeTensorsTest, WhatIsNoRegularFileIsRefused) {
  TempDir dir;
  fs::create_directory(dir.path() / "model.safetensors");
  EXPECT_EQ(MessageIn(dir, SafeTensors::Open(dir.path()).status()),
            "model.safetensors: expected a regular file");
}

}  // namespace
}  // namespace mea
