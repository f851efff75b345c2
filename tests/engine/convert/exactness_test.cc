// What must not change a single logit: a conversion that keeps all heads, and whatever the queries
// or the output projection take back.
#include <gtest/gtest.h>

#include "engine/convert/layer_weights.h"
#include "engine/convert/output.h"
#include "engine/convert/problems.h"
#include "engine/convert/random.h"
#include "tests/engine/convert/convert_harness.h"

namespace mea::convert {
namespace {

namespace fs = std::filesystem;
using testing::ConvertHarness;

// Weights are stored in f32 after a change of basis in double precision.
constexpr double kTolerance = 2e-5;

struct Family {
  const char* name;
  const char* base;
  bool attention_bias = false;
  int kv_heads = 4;
  int sliding_window = 0;
};
constexpr Family kFamilies[] = {{"llama", "llama"},
                                {"llama with biases", "llama", true},
                                {"llama, grouped queries", "llama", false, 2},
                                {"mistral", "mistral"},
                                {"mistral, a window", "mistral", false, 2, 9},
                                {"mixtral", "mixtral", false, 2},
                                {"qwen2", "qwen2"},
                                {"qwen3", "qwen3"},
                                {"qwen3 with biases", "qwen3", true, 2},
                                {"qwen3_moe", "qwen3_moe", false, 2}};

testing::RandomCheckpointSpec SpecOf(const Family& family) {
  testing::RandomCheckpointSpec spec = ConvertHarness::PlainSpec();
  spec.base_model_type = family.base;
  spec.attention_bias = family.attention_bias;
  spec.kv_heads = family.kv_heads;
  spec.sliding_window = family.sliding_window;
  return spec;
}

TEST(ExactnessTest, AllHeadsComposedGiveTheSameLogits) {
  for (const Family& family : kFamilies) {
    ConvertHarness harness;
    harness.WriteInput(SpecOf(family));
    const std::vector<float> before = testing::Logprobs(harness.path("in"));
    for (const Method method : {Method::kSvd, Method::kActivation, Method::kAligned}) {
      SCOPED_TRACE(std::string(family.name) + ", " + std::string(MethodName(method)));
      ConvertOptions options = harness.Options();
      options.method = method;
      options.key_heads = options.value_heads = {family.kv_heads};
      options.compose_full_layers = true;
      const absl::StatusOr<ConvertReport> report = Convert(options);
      ASSERT_TRUE(report.ok()) << report.status();
      for (const LayerResult& layer : report->layers) {
        EXPECT_LT(layer.key_error, 1e-9);
        EXPECT_LT(layer.value_error, 1e-9);
      }
      EXPECT_LT(testing::MaxDifference(before, testing::Logprobs(options.out)), kTolerance);
      fs::remove_all(options.out);
    }
  }
}

TEST(ExactnessTest, WithoutNeedHeadsAreLeftAlone) {
  ConvertHarness harness;
  harness.WriteInput(ConvertHarness::PlainSpec());
  ConvertOptions options = harness.Options();
  options.key_heads = options.value_heads = {4};
  ASSERT_TRUE(Convert(options).ok());
  EXPECT_EQ(testing::ReadText(harness.path("in") / "model.safetensors").substr(8),
            testing::ReadText(harness.path("out") / "model.safetensors").substr(8));
}

Matrix Inverse(const Matrix& m) {  // Gauss and Jordan
  const int64_t n = m.rows;
  Matrix a = m;
  Matrix inverse(n, n);
  for (int64_t i = 0; i < n; ++i) inverse(i, i) = 1;
  for (int64_t p = 0; p < n; ++p) {
    int64_t best = p;
    for (int64_t i = p; i < n; ++i) {
      if (std::abs(a(i, p)) > std::abs(a(best, p))) best = i;
    }
    std::swap_ranges(a.row(p), a.row(p) + n, a.row(best));
    std::swap_ranges(inverse.row(p), inverse.row(p) + n, inverse.row(best));
    const double pivot = a(p, p);
    for (int64_t x = 0; x < n; ++x) {
      a(p, x) /= pivot;
      inverse(p, x) /= pivot;
    }
    for (int64_t i = 0; i < n; ++i) {
      const double factor = i == p ? 0 : a(i, p);
      for (int64_t x = 0; x < n; ++x) {
        a(i, x) -= factor * a(p, x);
        inverse(i, x) -= factor * inverse(p, x);
      }
    }
  }
  return inverse;
}

// Each head a component of its own, but in another basis.
KeyComposition RandomRotations(const KeyProblem& problem, Random& random) {
  const int h = problem.heads;
  KeyComposition keys{.mix = Matrix(h, h), .rotation = ComplexMatrix(h, problem.num_frequencies())};
  for (int j = 0; j < h; ++j) keys.mix(j, j) = 1;
  for (int f = 0; f < problem.num_frequencies(); ++f) {
    keys.combine.emplace_back(h, h);
    for (int j = 0; j < h; ++j) {
      Complex rotation(random.Gaussian(), random.Gaussian());
      if (problem.freedom[f] == KeyFreedom::kRotation) rotation /= std::abs(rotation);
      if (problem.freedom[f] == KeyFreedom::kSign) rotation = rotation.real() < 0 ? -1 : 1;
      keys.rotation(j, f) = rotation;
      keys.combine[f](j, j) = 1.0 / rotation;
    }
  }
  return keys;
}

ValueComposition RandomBases(int h, int d, Random& random) {
  ValueComposition values{.mix = Matrix(h, h), .combine = Matrix(h * d, h * d)};
  for (int j = 0; j < h; ++j) {
    values.mix(j, j) = 1;
    Matrix& basis = values.basis.emplace_back(d, d);
    for (double& value : basis.values) value = random.Gaussian();
    for (int i = 0; i < d; ++i) basis(i, i) += 4;
    const Matrix inverse = Inverse(basis);
    for (int i = 0; i < d; ++i) {
      for (int x = 0; x < d; ++x) values.combine(j * d + i, j * d + x) = inverse(i, x);
    }
  }
  return values;
}

// Gains of QK-norm that are the same for both elements of a pair, where any rotation is free.
void EqualiseGains(const fs::path& dir, const testing::RandomCheckpointSpec& spec) {
  std::vector<testing::RawTensor> tensors = testing::RandomTensors(spec, 1);
  for (testing::RawTensor& tensor : tensors) {
    if (!tensor.name.ends_with("q_norm.weight") && !tensor.name.ends_with("k_norm.weight"))
      continue;
    const size_t half = tensor.bytes.size() / 2;
    tensor.bytes.replace(half, half, tensor.bytes.substr(0, half));
  }
  testing::WriteSafeTensors(dir / "model.safetensors", tensors);
}

TEST(ExactnessTest, WhatIsFreeChangesNoLogit) {
  for (const Family& family : kFamilies) {
    for (const bool equal_gains : {false, true}) {
      if (equal_gains && !std::string_view(family.base).starts_with("qwen3")) continue;
      SCOPED_TRACE(std::string(family.name) + (equal_gains ? ", equal gains" : ""));
      ConvertHarness harness;
      harness.WriteInput(SpecOf(family));
      if (equal_gains) EqualiseGains(harness.path("in"), SpecOf(family));
      const Checkpoint in = OpenCheckpoint(harness.path("in")).value();
      const int h = in.config.kv_heads;
      const int d = in.config.head_dim;
      Random random(11);
      const auto compose = [&](int layer) -> absl::StatusOr<LayerMatrices> {
        const LayerMatrices w = ReadLayerMatrices(in, layer).value();
        const KeyComposition keys = RandomRotations(MakeKeyProblem(in.config, w, nullptr), random);
        const ValueComposition values = RandomBases(h, d, random);
        return Compose(w, d, &keys, &values);
      };
      fs::create_directory(harness.path("out"));
      const LayerPlan plan(in.config.num_layers, LayerHeads{h, h, true, true});
      ASSERT_TRUE(WriteCheckpoint(in, {.heads = plan}, compose, harness.path("out")).ok());
      EXPECT_LT(testing::MaxDifference(testing::Logprobs(harness.path("in")),
                                       testing::Logprobs(harness.path("out"))),
                kTolerance);
    }
  }
}

}  // namespace
}  // namespace mea::convert
