#pragma once

// What the tests of weights share: checkpoints written, opened, loaded, spoilt and refused.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "engine/model/model_weights.h"
#include "tests/support/checkpoint_writer.h"

namespace mea {

using testing::ConfigJson;
using testing::HeadNormGain;
using testing::MakeTensor;
using testing::RandomCheckpointSpec;
using testing::RandomTensors;
using testing::RawTensor;
using testing::TempDir;
using testing::WriteRandomCheckpoint;

inline constexpr uint64_t kSeed = 20;

inline float ElementAt(const TensorView& view, int64_t i) {
  switch (view.dtype) {
    case DType::kBf16:
      return ToFloat(view.as<Bf16>()[i]);
    case DType::kF16:
      return ToFloat(view.as<F16>()[i]);
    default:
      return view.as<float>()[i];
  }
}

inline std::vector<float> Values(const TensorView& view) {
  std::vector<float> values(view.num_elements());
  for (size_t i = 0; i < values.size(); ++i) values[i] = ElementAt(view, static_cast<int64_t>(i));
  return values;
}

inline std::vector<int64_t> ShapeOf(const TensorView& view) {
  return {view.shape.begin(), view.shape.begin() + view.rank};
}

// A checkpoint directory, opened; the directory lives as long.
struct Opened {
  TempDir dir;
  absl::StatusOr<Checkpoint> checkpoint = absl::UnknownError("not opened");
};

inline std::unique_ptr<Opened> Write(const RandomCheckpointSpec& spec) {
  auto opened = std::make_unique<Opened>();
  WriteRandomCheckpoint(opened->dir.path(), spec, kSeed);
  opened->checkpoint = OpenCheckpoint(opened->dir.path());
  EXPECT_TRUE(opened->checkpoint.ok()) << opened->checkpoint.status();
  return opened;
}

inline ModelWeights Loaded(const Opened& opened, const LoadOptions& options = {}) {
  auto weights = LoadWeights(*opened.checkpoint, options);
  EXPECT_TRUE(weights.ok()) << weights.status();
  return *std::move(weights);
}

// The tensors of a checkpoint, to be spoilt.
class Tensors {
 public:
  explicit Tensors(const RandomCheckpointSpec& spec) : all(RandomTensors(spec, kSeed)) {}

  RawTensor& operator[](const std::string& name) {
    const auto tensor = std::find_if(all.begin(), all.end(),
                                     [&name](const RawTensor& t) { return t.name == name; });
    EXPECT_NE(tensor, all.end()) << name;
    return *tensor;
  }
  void Remove(const std::string& name) {
    std::erase_if(all, [&name](const RawTensor& t) { return t.name == name; });
  }
  void Add(const std::string& name, std::vector<int64_t> shape) {
    int64_t count = 1;
    for (const int64_t extent : shape) count *= extent;
    all.push_back(MakeTensor(name, DType::kF32, std::move(shape), std::vector<float>(count)));
  }
  // Overwrites f32 element i.
  void Set(const std::string& name, int i, float value) {
    std::memcpy((*this)[name].bytes.data() + i * sizeof(float), &value, sizeof(float));
  }

  std::vector<RawTensor> all;
};

struct Refusal {
  std::function<void(Tensors&)> spoil;
  const char* message;
};

inline void ExpectRefused(const RandomCheckpointSpec& spec, const std::vector<Refusal>& refusals,
                          const LoadOptions& options = {}) {
  for (const Refusal& refusal : refusals) {
    TempDir dir;
    WriteRandomCheckpoint(dir.path(), spec, kSeed);
    Tensors tensors(spec);
    refusal.spoil(tensors);
    testing::WriteSafeTensors(dir.path() / "model.safetensors", tensors.all);
    const auto checkpoint = OpenCheckpoint(dir.path());
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    const absl::Status status = LoadWeights(*checkpoint, options).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(absl::StrReplaceAll(std::string(status.message()), {{dir.path().string() + "/", ""}}),
              refusal.message);
  }
}

}  // namespace mea
