#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <vector>

#include "engine/model/model.h"
#include "kvcache/kv_cache.h"

namespace mea::golden {

struct OfflineOptions {
  KvDTypes kv_dtype = DType::kF32;
  int page_size = 16;    // tokens
  int chunk = 512;       // tokens of a prompt in one forward pass
  int max_tokens = 256;  // that the cache holds
};

// A checkpoint loaded as the server loads it and run without its thread.
class OfflineModel {
 public:
  // Weights stay in the checkpoint's dtype. Aborts where loading fails.
  OfflineModel(const std::filesystem::path& dir, Backend& backend, const OfflineOptions& options);

  // Runs the tokens in chunks, from an empty cache; logits [vocab] of each of `positions`.
  std::vector<std::vector<double>> Logits(std::span<const int32_t> tokens,
                                          std::span<const int> positions);

  // Continues all prompts together, greedily and past every eos, in the engine's own steps.
  std::vector<std::vector<int32_t>> Greedy(std::span<const std::vector<int32_t>> prompts,
                                           int num_tokens);

 private:
  const OfflineOptions options_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<KvCache> kv_;
};

}  // namespace mea::golden
