#pragma once

#include <span>
#include <vector>

#include "kernels/sample.h"

namespace mea {

// Backend::Sample on the host, a row at a time. Keeps scratch of the vocabulary's size; one per
// thread.
class HostSampler {
 public:
  SampledToken Sample(std::span<const float> logits, const SampleRow& row,
                      std::span<const LogitEdit> edits);

 private:
  struct Candidate {
    float logit;  // after the temperature, relative to the best candidate's: at most 0
    int32_t token_id;
  };
  static bool Better(const Candidate& a, const Candidate& b) {
    return a.logit != b.logit ? a.logit > b.logit : a.token_id < b.token_id;
  }

  void Edit(std::span<const float> logits, const SampleRow& row, std::span<const LogitEdit> edits);
  int32_t Draw(const SampleRow& row);
  // Keeps the n best candidates, best first.
  void KeepBest(size_t n);
  void KeepTopP(double top_p);
  void KeepMinP(double min_p);

  std::vector<float> edited_;  // [vocab]
  std::vector<Candidate> candidates_;
};

// log(sum(exp(logits))), in double.
double LogSumExp(std::span<const float> logits);

}  // namespace mea
