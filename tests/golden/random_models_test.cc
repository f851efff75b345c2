#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <iostream>
#include <memory>

#include "kernels/backend.h"
#include "tests/golden/golden_data.h"
#include "tests/golden/offline_model.h"
#include "tests/kernels/cuda/tested_backend.h"
#include "tests/support/checkpoint_writer.h"

// The engine against an independent float64 reading of the papers (tools/golden/mea_reference.py),
// on random models of every shape. Page sizes and chunks change with the seed, which failures name.
namespace mea::golden {
namespace {

struct Variant {
  std::vector<int> page_sizes;
  DType weights;
  DType cache;
  double tolerance;    // relative, of the logits
  double safe_margin;  // greedy tokens are compared where no step is nearer to a tie; 0 = never
};

// Doubles throughout: what is left is the order of sums.
const Variant kReference = {.page_sizes = {1, 3, 16, 40},
                            .weights = DType::kF32,
                            .cache = DType::kF64,
                            .tolerance = 1e-12,
                            .safe_margin = 1e-5};
// 2^-24 per operation, grown by up to three layers and the cancellation of composite keys.
const Variant kFloat = {.page_sizes = {16, 32, 48},
                        .weights = DType::kF32,
                        .cache = DType::kF32,
                        .tolerance = 1e-5,
                        .safe_margin = 1e-3};
// Cached keys and values carry 2^-9 each; the weights' rounding is in the golden logits already.
const Variant kBfloat = {.page_sizes = {16, 32, 48},
                         .weights = DType::kBf16,
                         .cache = DType::kBf16,
                         .tolerance = 2e-2,
                         .safe_margin = 0};

// Activations are BF16 too: 2^-9 more for every op of up to three layers. 2.1e-2 was seen.
const Variant kCuda = {.page_sizes = {64, 128},
                       .weights = DType::kBf16,
                       .cache = DType::kBf16,
                       .tolerance = 3e-2,
                       .safe_margin = 0};

class LargestError {
 public:
  explicit LargestError(const char* what) : what_(what) {}
  ~LargestError() {
    std::cout << "largest relative error of " << what_ << ": " << error_ << " (seed " << seed_
              << ")\n";
  }
  void Note(double error, uint64_t seed) {
    if (error > error_) {
      error_ = error;
      seed_ = seed;
    }
  }

 private:
  const char* const what_;
  double error_ = 0;
  uint64_t seed_ = 0;
};

int ArgMax(const std::vector<double>& logits) {
  return static_cast<int>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

// Best minus second-best logit.
double Margin(std::vector<double> logits) {
  std::nth_element(logits.begin(), logits.begin() + 1, logits.end(), std::greater<>());
  return logits[0] - logits[1];
}

OfflineOptions OptionsOf(const RandomModel& model, const Variant& variant) {
  constexpr int kChunks[] = {2, 5, 16, 64};
  const size_t num_page_sizes = variant.page_sizes.size();
  return {.kv_dtype = variant.cache,
          .page_size = variant.page_sizes[model.seed % num_page_sizes],
          .chunk = kChunks[model.seed / num_page_sizes % std::size(kChunks)]};
}

// The prompt and, as its neighbour in every step, the prompt up to the middle. False where a tie is
// too near for the tokens to say anything.
bool CheckGreedy(const RandomModel& model, double safe_margin, OfflineModel& offline) {
  const std::vector<int32_t> prefix(model.prompt.begin(), model.prompt.begin() + model.middle + 1);
  const std::vector<std::vector<int32_t>> prompts = {model.prompt, prefix};
  const auto tokens = offline.Greedy(prompts, static_cast<int>(model.greedy.size()));
  if (Margin(model.middle_logits) > safe_margin) {
    EXPECT_EQ(tokens[1][0], ArgMax(model.middle_logits));
  }
  if (model.min_margin <= safe_margin) return false;
  EXPECT_EQ(tokens[0], model.greedy);
  return true;
}

// Of the lines of random models. Returns how many were continued.
int CheckAll(const std::vector<RandomModel>& models, Backend& backend, const Variant& variant,
             const char* what) {
  LargestError largest(what);
  int num_continued = 0;
  for (const RandomModel& model : models) {
    SCOPED_TRACE(::testing::Message() << "seed " << model.seed << " " << model.config_json);
    const testing::TempDir dir;
    WriteCheckpoint(dir.path(), model, variant.weights);
    OfflineModel offline(dir.path(), backend, OptionsOf(model, variant));

    const int last = static_cast<int>(model.prompt.size()) - 1;
    const int positions[] = {last, model.middle};
    const auto logits = offline.Logits(model.prompt, positions);
    const bool exact = variant.weights == DType::kF32;
    const double error = RelativeError(logits[0], exact ? model.logits : model.bf16_logits);
    EXPECT_LE(error, variant.tolerance);
    largest.Note(error, model.seed);
    if (!exact) continue;  // no more goldens
    EXPECT_LE(RelativeError(logits[1], model.middle_logits), variant.tolerance);
    num_continued += CheckGreedy(model, variant.safe_margin, offline);
  }
  return num_continued;
}

const std::vector<RandomModel>& RandomModels() {
  static const auto* models = new std::vector(LoadRandomModels("random_models.jsonl"));
  return *models;
}

// Those with knocking or interleaved heads, the linear knocks apart: the engine folds these into
// projections, which it rounds to their format.
std::vector<RandomModel> KnockedAndInterleaved(bool is_linear) {
  std::vector<RandomModel> models = LoadRandomModels("kha_iha_models.jsonl");
  std::erase_if(models, [is_linear](const RandomModel& model) {
    const bool linear = model.config_json.find(R"("knock":"linear")") != std::string::npos;
    return linear != is_linear;
  });
  return models;
}

TEST(RandomModelsTest, ReferenceBackEndEqualsThePapers) {
  const std::unique_ptr<Backend> backend = CreateReferenceBackend();
  EXPECT_GE(CheckAll(RandomModels(), *backend, kReference, "the reference back end"), 200);
}

TEST(RandomModelsTest, CpuEqualsThePapersInFloat) {
  auto backend = CreateCpuBackend({.num_threads = 2});
  ASSERT_TRUE(backend.ok()) << backend.status();
  EXPECT_GE(CheckAll(RandomModels(), **backend, kFloat, "the CPU in F32"), 200);
}

TEST(RandomModelsTest, CpuStaysNearThePapersInBfloat) {
  auto backend = CreateCpuBackend({.num_threads = 2});
  ASSERT_TRUE(backend.ok()) << backend.status();
  CheckAll(RandomModels(), **backend, kBfloat, "the CPU with BF16 weights and cache");
}

TEST(RandomModelsTest, EmulatedCudaStaysNearThePapersInBfloat) {
  CheckAll(RandomModels(), *MakeCuda(), kCuda, "emulated CUDA");
}

TEST(KnockedAndInterleavedModelsTest, ReferenceBackEndEqualsThePapers) {
  const std::unique_ptr<Backend> backend = CreateReferenceBackend();
  EXPECT_GE(CheckAll(KnockedAndInterleaved(false), *backend, kReference,
                     "the reference back end with KHA's MLP and IHA"),
            35);
  Variant folded = kReference;
  folded.tolerance = 1e-5;  // folded weights round to F32 as the unfolded did
  folded.safe_margin = 1e-3;
  EXPECT_GE(CheckAll(KnockedAndInterleaved(true), *backend, folded,
                     "the reference back end with folded knocks"),
            17);
}

TEST(KnockedAndInterleavedModelsTest, CpuEqualsThePapersInFloat) {
  auto backend = CreateCpuBackend({.num_threads = 2});
  ASSERT_TRUE(backend.ok()) << backend.status();
  for (const bool is_linear : {false, true}) {
    EXPECT_GE(CheckAll(KnockedAndInterleaved(is_linear), **backend, kFloat,
                       is_linear ? "the CPU in F32 with folded knocks"
                                 : "the CPU in F32 with KHA's MLP and IHA"),
              17);
  }
}

TEST(KnockedAndInterleavedModelsTest, CpuStaysNearThePapersInBfloat) {
  auto backend = CreateCpuBackend({.num_threads = 2});
  ASSERT_TRUE(backend.ok()) << backend.status();
  for (const bool is_linear : {false, true}) {
    CheckAll(KnockedAndInterleaved(is_linear), **backend, kBfloat,
             is_linear ? "the CPU in BF16 with folded knocks"
                       : "the CPU in BF16 with KHA's MLP and IHA");
  }
}

TEST(KnockedAndInterleavedModelsTest, EmulatedCudaStaysNearThePapersInBfloat) {
  for (const bool is_linear : {false, true}) {
    CheckAll(
        KnockedAndInterleaved(is_linear), *MakeCuda(), kCuda,
        is_linear ? "emulated CUDA with folded knocks" : "emulated CUDA with KHA's MLP and IHA");
  }
}

}  // namespace
}  // namespace mea::golden
