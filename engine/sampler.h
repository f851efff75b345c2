#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/request.h"

namespace mea {

// Everything a draw depends on besides the logits. Nothing here knows of other requests, so a
// request's tokens do not depend on its neighbours.
struct SamplerInput {
  const SamplingParams* params = nullptr;
  std::span<const int32_t> prompt;
  std::span<const int32_t> output;  // drawn so far; its length is the counter of the generator
  std::span<const int32_t> banned_tokens;  // cannot be drawn (eos and stops before min_tokens)
  std::optional<int> num_logprobs;
};

// Draws tokens from logits. Keeps scratch of the vocabulary's size; one per thread.
class Sampler {
 public:
  explicit Sampler(int vocab_size) : adjusted_(vocab_size), counts_(vocab_size) {}

  // INTERNAL when the logits are not finite.
  absl::StatusOr<TokenEvent> Sample(std::span<const float> logits, const SamplerInput& input);

 private:
  struct Candidate {
    float logit;  // after the temperature, relative to the best candidate's: at most 0
    int32_t token_id;
  };
  static bool Better(const Candidate& a, const Candidate& b) {
    return a.logit != b.logit ? a.logit > b.logit : a.token_id < b.token_id;
  }

  void Adjust(std::span<const float> logits, const SamplerInput& input);
  void ApplyPenalties(const SamplerInput& input);
  int32_t Draw(const SamplingParams& params, double uniform);
  // Keeps the n best candidates, best first.
  void KeepBest(size_t n);
  void KeepTopP(double top_p);
  void KeepMinP(double min_p);

  std::vector<float> adjusted_;  // [vocab]
  std::vector<int32_t> counts_;  // [vocab] occurrences in the output; all zero between calls
  std::vector<Candidate> candidates_;
};

// log(sum(exp(logits))), in double.
double LogSumExp(std::span<const float> logits);

// A uniform number in [0, 1) that depends on (seed, counter) alone.
double UniformAt(uint64_t seed, uint64_t counter);

}  // namespace mea
