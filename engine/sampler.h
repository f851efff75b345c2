#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/request.h"
#include "kernels/backend.h"

namespace mea {

// Everything that a draw depends on, apart from the logits. Nothing here knows other requests, so a
// request's tokens do not depend on its neighbours.
struct SamplerInput {
  const SamplingParams* params = nullptr;
  std::span<const int32_t> prompt;
  std::span<const int32_t> output;  // drawn so far; its length is the counter of the generator
  std::span<const int32_t> banned_tokens;  // cannot be drawn (eos and stops before min_tokens)
  std::optional<int> num_logprobs;
  int mask = -1;  // of AddMask; -1: no mask
};

// Turns the sampling parameters of a step's requests into the rows of Backend::Sample, and its
// results into events. Keeps scratch memory of the vocabulary's size; one per thread.
class Sampler {
 public:
  explicit Sampler(int vocab_size) : edit_of_(vocab_size, kNoEdit) {}

  // Begins a new step; its rows are those of the logits, in the order of Add.
  void Clear();
  void Add(const SamplerInput& input);
  // Memory for another mask of this step, valid until the next AddMask, and its number.
  struct Mask {
    int index = 0;
    std::span<uint32_t> words;  // [MaskWords(vocab_size)]
  };
  Mask AddMask();
  // Starts the draws of rows [first, first + rows of the logits); the results are there after
  // waiting for the back end.
  void Start(Backend& backend, TensorView logits, size_t first = 0);
  // The result of the i-th Add: INTERNAL if its logits are not finite, else what was drawn from
  // them.
  absl::Status Check(int i) const;
  TokenEvent Result(int i) const;

 private:
  static constexpr int32_t kNoEdit = -1;

  // The row's edit of this token, created if there is none yet.
  LogitEdit& EditOf(int32_t token_id);
  // Edits from `first` on are the present row's.
  void AddPenalties(const SamplerInput& input, size_t first);
  void Ban(const SamplerInput& input);
  void KeepOnly(std::vector<int32_t> allowed, size_t first);

  std::vector<SampleRow> rows_;
  std::vector<LogitEdit> edits_;
  std::vector<uint32_t> masks_;
  std::vector<SampledToken> tokens_;
  // [vocab] index of the present row's edit of each token; kNoEdit everywhere between rows.
  std::vector<int32_t> edit_of_;
};

}  // namespace mea
