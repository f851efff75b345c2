// Matrices that GPTQ and AWQ have packed, and checkpoints with them.
#include "engine/weights/packed_matrix.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <map>

#include "engine/checkpoint/inspect.h"
#include "kernels/int4_rows.h"
#include "kernels/int8_rows.h"
#include "tests/engine/checkpoint/weights_support.h"

namespace mea {
namespace {

using ::testing::HasSubstr;

constexpr PackedFormat kGptq{.group_size = 32, .zero_offset = 1};
constexpr PackedFormat kGptqV2{.group_size = 32};
constexpr PackedFormat kAwq{.method = PackedMethod::kAwq, .group_size = 32};

struct Golden {
  const char* name;
  int64_t outs, ins;
  PackedFormat format;
  bool has_order = false;
};
// As tools/golden/make_packed_matrices.py says.
const Golden kGolden[] = {
    {"gptq", 32, 64, kGptq},
    {"gptq_v2", 32, 64, kGptqV2},
    {"gptq_order", 32, 64, kGptq, true},
    {"gptq_row", 8, 264, {.group_size = 0, .zero_offset = 1}},
    {"gptq_256", 8, 512, {.group_size = 256, .zero_offset = 1}},
    {"gptq_order_64", 8, 200, {.group_size = 64}, true},
    {"awq", 32, 64, kAwq},
    {"awq_128", 16, 272, {.method = PackedMethod::kAwq, .group_size = 128}},
};

SafeTensors GoldenTensors() {
  return SafeTensors::Open(MEA_SOURCE_DIR "/tests/engine/checkpoint/data/packed").value();
}

std::vector<float> Widened(const TensorView& matrix) {
  const int64_t k = matrix.shape[1];
  std::vector<float> values(matrix.shape[0] * k);
  for (int64_t i = 0; i < matrix.shape[0]; ++i) WidenInt4Row(matrix, i, values.data() + i * k);
  return values;
}

std::vector<float> Expected(const SafeTensors& tensors, const std::string& name) {
  return Values(MapTensor(*tensors.Find(name + ".expected"))->view());
}

TEST(PackedMatrixTest, EveryNumberIsWhatTheLibrariesCompute) {
  const SafeTensors tensors = GoldenTensors();
  for (const auto& [name, outs, ins, format, has_order] : kGolden) {
    SCOPED_TRACE(name);
    const auto packed =
        FindPackedMatrix(tensors, absl::StrCat(name, ".weight"), {outs, ins}, format);
    ASSERT_TRUE(packed.ok() && packed->has_value()) << packed.status();
    const auto matrix = UnpackMatrix(**packed, outs, ins, [](int64_t row) { return row; });
    ASSERT_TRUE(matrix.ok()) << matrix.status();
    EXPECT_EQ(matrix->view().int4->order.empty(), !has_order);
    EXPECT_EQ(Widened(matrix->view()), Expected(tensors, name));
  }
}

TEST(PackedMatrixTest, RowsAreTakenFromTheColumnsThatAreAskedFor) {
  const SafeTensors tensors = GoldenTensors();
  for (const Golden& golden : {kGolden[0], kGolden[6]}) {
    const auto packed =
        FindPackedMatrix(tensors, absl::StrCat(golden.name, ".weight"), {32, 64}, golden.format);
    const auto matrix = UnpackMatrix(**packed, 9, 64, [](int64_t row) { return 30 - 3 * row; });
    const std::vector<float> expected = Expected(tensors, golden.name);
    const std::vector<float> widened = Widened(matrix->view());
    for (int64_t row = 0; row < 9; ++row) {
      const auto from = expected.begin() + (30 - 3 * row) * 64;
      EXPECT_TRUE(std::equal(from, from + 64, widened.begin() + row * 64)) << golden.name << row;
    }
  }
}

TEST(PackedMatrixTest, AMatrixWithoutIntegersIsNotPacked) {
  const auto packed = FindPackedMatrix(GoldenTensors(), "other.weight", {32, 64}, kGptq);
  EXPECT_TRUE(packed.ok() && !packed->has_value());
}

// A checkpoint whose o_proj of layer 1, [32, 64], is packed.
constexpr char kStem[] = "model.layers.1.self_attn.o_proj.";
const RandomCheckpointSpec kSpec{.hidden_size = 32, .q_heads = 8, .kv_heads = 4};

RawTensor Copied(const StoredTensor& stored, const std::string& name) {
  return {.name = name,
          .dtype = StoredDTypeName(stored.dtype),
          .shape = stored.shape,
          .bytes = std::string(stored.data(), stored.num_bytes)};
}

std::string ConfigWith(const std::string& quantisation, const RandomCheckpointSpec& spec = kSpec) {
  const std::string config = ConfigJson(spec);
  return absl::StrCat(config.substr(0, config.rfind('}')),
                      ", \"quantization_config\": ", quantisation, "}");
}
constexpr char kGptqConfig[] =
    R"({"quant_method": "gptq", "bits": 4, "group_size": 32, "desc_act": true, "sym": false})";
constexpr char kAwqConfig[] =
    R"({"quant_method": "awq", "bits": 4, "group_size": 32, "zero_point": true, "version": "gemm"})";

// A tensor of the checkpoint, to be spoilt.
using Spoil = std::function<void(Tensors&)>;

std::unique_ptr<Opened> WritePacked(const std::string& golden, const std::string& quantisation,
                                    const Spoil& spoil = {}) {
  auto opened = std::make_unique<Opened>();
  WriteRandomCheckpoint(opened->dir.path(), kSpec, kSeed);
  testing::WriteText(opened->dir.path() / "config.json", ConfigWith(quantisation));
  Tensors tensors(kSpec);
  tensors.Remove(absl::StrCat(kStem, "weight"));
  const SafeTensors source = GoldenTensors();
  for (const char* part : {"qweight", "qzeros", "scales", "g_idx"}) {
    const StoredTensor* const stored = source.Find(absl::StrCat(golden, ".", part));
    if (stored != nullptr) tensors.all.push_back(Copied(*stored, absl::StrCat(kStem, part)));
  }
  if (spoil) spoil(tensors);
  testing::WriteSafeTensors(opened->dir.path() / "model.safetensors", tensors.all);
  opened->checkpoint = OpenCheckpoint(opened->dir.path());
  EXPECT_TRUE(opened->checkpoint.ok()) << opened->checkpoint.status();
  return opened;
}

TEST(PackedCheckpointTest, PackedMatricesStandBesideOthers) {
  for (const auto& [golden, config] :
       {std::pair("gptq", kGptqConfig), std::pair("gptq_order", kGptqConfig),
        std::pair("awq", kAwqConfig)}) {
    SCOPED_TRACE(golden);
    const auto opened = WritePacked(golden, config);
    int64_t left = -1;
    const ModelWeights weights =
        LoadWeights(*opened->checkpoint, {}, [&](std::string_view, int64_t done, int64_t total) {
          left = total - done;
        }).value();
    EXPECT_EQ(left, 0);
    const TensorView packed = weights.layers[1].o_proj;
    ASSERT_EQ(packed.dtype, DType::kI4);
    EXPECT_EQ(Widened(packed), Expected(GoldenTensors(), golden));
    EXPECT_EQ(weights.layers[0].o_proj.dtype, DType::kF32);
    EXPECT_EQ(weights.num_bytes, PlannedWeightBytes(*opened->checkpoint).value());
    const ModelWeights floats = Loaded(*Write(kSpec));
    EXPECT_EQ(floats.num_bytes - weights.num_bytes, 32 * 64 * 4 - 32 * Int4RowStride(64, 32));
    EXPECT_THAT(InspectCheckpoint(*opened->checkpoint, {}), HasSubstr(", 4 bits, groups of 32\n"));
  }
}

TEST(PackedCheckpointTest, PackedMatricesConvertToOtherFormats) {
  for (const char* golden : {"gptq", "gptq_order"}) {
    const auto opened = WritePacked(golden, kGptqConfig);
    const std::vector<float> expected = Expected(GoldenTensors(), golden);
    for (const DType dtype : {DType::kF32, DType::kBf16, DType::kF16}) {
      const ModelWeights weights = Loaded(*opened, {.weight_dtype = dtype});
      EXPECT_EQ(weights.num_bytes,
                PlannedWeightBytes(*opened->checkpoint, {.weight_dtype = dtype}).value());
      const std::vector<float> values = Values(weights.layers[1].o_proj);
      for (size_t i = 0; i < values.size(); ++i) {
        const float exact = expected[i];
        EXPECT_EQ(values[i], dtype == DType::kBf16  ? ToFloat(ToBf16(exact))
                             : dtype == DType::kF16 ? ToFloat(ToF16(exact))
                                                    : exact);
      }
    }
    const ModelWeights eight = Loaded(*opened, {.weight_dtype = DType::kI8});
    std::vector<int8_t> row(Int8RowStride(64));
    QuantizeRow(expected.data(), 64, row.data());
    EXPECT_EQ(std::memcmp(row.data(), eight.layers[1].o_proj.row<int8_t>(0), row.size()), 0);
    // Those that are packed stay as they are, the others are rounded.
    const ModelWeights four = Loaded(*opened, {.weight_dtype = DType::kI4});
    EXPECT_EQ(Widened(four.layers[1].o_proj), expected);
    EXPECT_EQ(four.layers[0].o_proj.dtype, DType::kI4);
    EXPECT_EQ(four.embedding.dtype, DType::kI8);
  }
}

TEST(PackedCheckpointTest, ABiasOfZerosIsHarmlessBesideAPackedMatrix) {
  const std::string bias = absl::StrCat(kStem, "bias");
  const auto opened = WritePacked("gptq", kGptqConfig, [&](Tensors& t) { t.Add(bias, {32}); });
  EXPECT_TRUE(LoadWeights(*opened->checkpoint).ok());
  const auto refused = WritePacked("gptq", kGptqConfig, [&](Tensors& t) {
    t.Add(bias, {32});
    t.Set(bias, 3, 1.0f);
  });
  EXPECT_THAT(std::string(LoadWeights(*refused->checkpoint).status().message()),
              HasSubstr("no such tensor in this configuration"));
}

struct BrokenPack {
  const char* golden;
  const char* config;
  Spoil spoil;
  const char* message;
};

TEST(PackedCheckpointTest, WhatDoesNotFitIsRefused) {
  const auto part = [](const char* name) { return absl::StrCat(kStem, name); };
  const auto reshape = [&](const char* name, std::vector<int64_t> shape) {
    return [=](Tensors& t) { t[part(name)].shape = shape; };
  };
  const auto set_group = [&](int i, int32_t group) {
    return [=](Tensors& t) { std::memcpy(t[part("g_idx")].bytes.data() + 4 * i, &group, 4); };
  };
  const std::vector<BrokenPack> broken = {
      {"gptq", kGptqConfig, reshape("qweight", {32, 8}),
       "qweight\": expected shape [8, 32], found [32, 8]"},
      {"awq", kAwqConfig, reshape("qweight", {4, 64}),
       "qweight\": expected shape [64, 4], found [4, 64]"},
      {"gptq", kGptqConfig, reshape("qzeros", {4, 2}),
       "qzeros\": expected shape [2, 4], found [4, 2]"},
      {"gptq", kGptqConfig, reshape("scales", {32, 2}),
       "scales\": expected shape [2, 32], found [32, 2]"},
      {"gptq", kGptqConfig, [&](Tensors& t) { t.Remove(part("scales")); },
       "scales\": expected shape [2, 32], found no such tensor"},
      {"gptq", kGptqConfig, [&](Tensors& t) { t[part("scales")].dtype = "I16"; },
       "scales\": expected dtype F16 or BF16, found I16"},
      {"awq", kAwqConfig, [&](Tensors& t) { t[part("qweight")].dtype = "F32"; },
       "qweight\": expected dtype I32 or U32, found F32"},
      {"gptq", kGptqConfig,
       [&](Tensors& t) { std::memcpy(t[part("scales")].bytes.data() + 6, "\x00\x7c", 2); },
       "scales\": expected finite values in int4, found an infinity or NaN at [0, 3]"},
      {"gptq", kGptqConfig, set_group(5, 2), "g_idx\": expected groups of 0 to 1, found 2 at [5]"},
      {"gptq", kGptqConfig, set_group(5, -1),
       "g_idx\": expected groups of 0 to 1, found -1 at [5]"},
      {"gptq", kGptqConfig, set_group(5, 1),
       "g_idx\": expected 32 inputs in each group, found others in group 0"},
  };
  for (const auto& [golden, config, spoil, message] : broken) {
    const auto opened = WritePacked(golden, config, spoil);
    const absl::Status status = LoadWeights(*opened->checkpoint).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << message;
    EXPECT_EQ(absl::StrReplaceAll(std::string(status.message()),
                                  {{opened->dir.path().string() + "/", ""}}),
              absl::StrCat("model.safetensors: \"", kStem, message));
  }
}

TEST(PackedCheckpointTest, AnExpertInAnotherOrderIsRefused) {
  const RandomCheckpointSpec spec{.base_model_type = "mixtral",
                                  .hidden_size = 64,
                                  .num_layers = 1,
                                  .ffn_size = 32,
                                  .num_experts = 2};
  for (const bool ordered : {false, true}) {
    TempDir dir;
    WriteRandomCheckpoint(dir.path(), spec, kSeed);
    testing::WriteText(dir.path() / "config.json", ConfigWith(kGptqConfig, spec));
    Tensors tensors(spec);
    const SafeTensors source = GoldenTensors();
    for (int expert = 0; expert < 2; ++expert) {
      for (const char* matrix : {"w1", "w3"}) {
        const std::string stem =
            absl::StrCat("model.layers.0.block_sparse_moe.experts.", expert, ".", matrix, ".");
        tensors.Remove(stem + "weight");
        for (const char* name : {"qweight", "qzeros", "scales", "g_idx"}) {
          tensors.all.push_back(Copied(
              *source.Find(absl::StrCat(ordered ? "gptq_order." : "gptq.", name)), stem + name));
        }
      }
    }
    testing::WriteSafeTensors(dir.path() / "model.safetensors", tensors.all);
    const auto checkpoint = OpenCheckpoint(dir.path());
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    const absl::Status status = LoadWeights(*checkpoint).status();
    if (!ordered) {
      EXPECT_TRUE(status.ok()) << status;
      continue;
    }
    EXPECT_THAT(std::string(status.message()),
                HasSubstr("experts.0.w1.g_idx\": expected inputs of an expert in the order of "
                          "their groups, found another (desc_act)"));
  }
}

}  // namespace
}  // namespace mea
