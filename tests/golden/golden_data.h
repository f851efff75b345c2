#pragma once

#include <cstdint>
#include <filesystem>
#include <ostream>
#include <string>
#include <vector>

#include "kernels/dtype.h"

// What tests/golden holds, as the README there describes it. Broken data aborts.
namespace mea::golden {

struct NamedShape {
  std::string name;
  std::vector<int64_t> shape;
};

// One line of a file of random models: a model, and what a float64 oracle makes of it.
struct RandomModel {
  std::string name;  // in family_models.jsonl alone
  uint64_t seed = 0;
  std::string config_json;
  std::vector<NamedShape> tensors;  // in the checksum's order
  uint64_t weights_checksum = 0;
  std::vector<int32_t> prompt;
  std::vector<double> logits;  // [vocab], last position of the prompt
  int middle = 0;              // another position
  std::vector<double> middle_logits;
  std::vector<double> bf16_logits;  // last position, from weights rounded to BF16
  std::vector<int32_t> greedy;
  double min_margin = 0;  // least gap between best and second-best logit along `greedy`
};
// What a failed test shows of it.
inline void PrintTo(const RandomModel& model, std::ostream* out) {
  *out << model.name << " of seed " << model.seed;
}

// Of random_models.jsonl, kha_iha_models.jsonl or family_models.jsonl.
std::vector<RandomModel> LoadRandomModels(const std::string& file);

// Writes config.json and model.safetensors with every tensor in `dtype`.
void WriteCheckpoint(const std::filesystem::path& dir, const RandomModel& model, DType dtype);

// A checkpoint of tests/golden, and what another program makes of it.
struct SavedModel {
  std::string name;
  std::filesystem::path dir;
  std::vector<int32_t> prompt;
  std::vector<double> logits;  // [vocab], last position of the prompt
  std::vector<int32_t> greedy;
  double min_margin = 0;
};

// Those in tests/golden/`set`: "hf" by transformers, in float32; "mea" by the float64 oracles.
std::vector<SavedModel> LoadSavedModels(const std::string& set);

// ||a - b|| / ||b||; infinite where a is not finite or the sizes differ.
double RelativeError(const std::vector<double>& a, const std::vector<double>& b);

}  // namespace mea::golden
