#pragma once

// Drawing tokens from logits, and log-probabilities, on the device. The drawn token is the one that
// kernels/draw.h defines, to the bit; log-probabilities are those of the unedited logits. One block
// per row; the results of a row depend on that row alone.

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/draw.h"

namespace mea::cuda {

struct SampleParams {
  const float* logits = nullptr;     // [num_rows, vocab]
  int64_t logits_stride = 0;         // elements from row to row
  const SampleRow* rows = nullptr;   // [num_rows]
  const LogitEdit* edits = nullptr;  // those of all rows
  const uint32_t* masks = nullptr;   // [n, MaskWords(vocab)]: those of all rows
  float* edited = nullptr;           // [num_rows, vocab]: scratch if a row has edits or a mask
  SampledToken* tokens = nullptr;    // [num_rows]
  int num_rows = 0;
  int vocab = 0;  // at most kMaxSampleVocab
};
cudaError_t LaunchSample(const SampleParams& params, cudaStream_t stream);

// logprobs[i] = log softmax(logits[i])[targets[i]]
struct TokenLogprobsParams {
  const float* logits = nullptr;  // [num_rows, vocab]
  int64_t logits_stride = 0;
  const int32_t* targets = nullptr;  // [num_rows]; negative: the row is skipped
  float* logprobs = nullptr;         // [num_rows]; NaN where a logit is not finite
  int num_rows = 0;
  int vocab = 0;  // at most kMaxSampleVocab
};
cudaError_t LaunchTokenLogprobs(const TokenLogprobsParams& params, cudaStream_t stream);

}  // namespace mea::cuda
