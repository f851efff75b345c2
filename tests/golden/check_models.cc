#include "tests/golden/check_models.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <iostream>

#include "kernels/cpu/kernel_table.h"
#include "tests/golden/offline_model.h"
#include "tests/support/checkpoint_writer.h"

namespace mea::golden {
namespace {

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
          .chunk = kChunks[model.seed / num_page_sizes % std::size(kChunks)],
          .max_tokens = 512};
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

}  // namespace

bool CpuRoundsRows() { return cpu::AvailableTargets().front() == "AVX3_BF16"; }

Variant CpuBfloat() {
  Variant variant = kBfloat;
  if (CpuRoundsRows()) variant.tolerance *= 2;
  return variant;
}

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

}  // namespace mea::golden
