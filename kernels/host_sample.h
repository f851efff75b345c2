#pragma once

#include <compare>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/sample.h"

namespace mea {

// Backend::Sample on the host, a row at a time. Keeps scratch of the vocabulary's size; one per
// thread.
class HostSampler {
 public:
  // Prepares for rows of this many logits, so that they allocate nothing.
  void Expect(int64_t vocab_size);
  SampledToken Sample(std::span<const float> logits, const SampleRow& row,
                      std::span<const LogitEdit> edits, std::span<const uint32_t> masks);

 private:
  struct Rank {
    uint32_t distance;
    int32_t token_id;
    auto operator<=>(const Rank&) const = default;  // the best is the least
  };
  struct Candidate {
    Rank rank;
    uint64_t weight;
  };

  // The logits themselves if nothing is edited or masked.
  std::span<const float> Edit(std::span<const float> logits, const SampleRow& row,
                              std::span<const LogitEdit> edits, std::span<const uint32_t> masks);
  int32_t Draw(std::span<const float> edited, const SampleRow& row);
  uint64_t TotalWeight() const;
  void ReportLogprobs(std::span<const float> logits, int num_top, SampledToken& token);
  void KeepUpTo(Rank last);
  void KeepBest(size_t n);
  void KeepTopP(float top_p);

  std::vector<float> edited_;          // [vocab]
  std::vector<Candidate> candidates_;  // by token id
  std::vector<Rank> ranked_;
  std::vector<int32_t> ids_;  // [vocab]
};

// log(sum(exp(logits))), in double.
double LogSumExp(std::span<const float> logits);

}  // namespace mea
