#pragma once

#include <array>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/batch.h"
#include "engine/model/model.h"
#include "kernels/backend.h"
#include "kvcache/kv_cache.h"

namespace mea {

// Fills every layer's cache with finite numbers, whatever the back end's layout.
absl::Status FillCache(Backend& backend, const KvCache& kv);

// One sequence of a step: its last `num_tokens` of `length` tokens are computed; the others are
// assumed to be in the cache.
struct StepSequence {
  int length = 0;
  int num_tokens = 1;
};

// Repeats one step of the model: the same tokens at the same depths, over a cache with arbitrary
// contents. It does what an engine's step asks of the device, from the batch to the drawn tokens.
// The model and the cache must outlive it; one thread.
class Stepper {
 public:
  Stepper(Model* model, KvCache* kv) : model_(model), kv_(kv) {}

  // Chooses the step to repeat. RESOURCE_EXHAUSTED when the cache has too few pages.
  absl::Status Set(const std::vector<StepSequence>& sequences);
  // `count` times: forward, logits of each sequence's last row, one greedy draw of each. As in the
  // engine, a device gets the next step while one is in flight. Waits for the last tokens.
  absl::Status Run(int count);

  // Drawn by the last step, in the order of the sequences.
  const std::vector<SampledToken>& tokens() const { return tokens_[last_]; }
  int num_rows() const { return batch_.num_tokens(); }  // padding included

 private:
  void Launch(std::vector<SampledToken>& tokens);

  Model* const model_;
  KvCache* const kv_;
  std::vector<std::unique_ptr<Sequence>> sequences_;
  Batch batch_;
  std::vector<int32_t> rows_;  // whose logits are wanted
  std::vector<SampleRow> draws_;
  std::array<std::vector<SampledToken>, 2> tokens_;  // of two steps, alternately
  int last_ = 0;
};

}  // namespace mea
