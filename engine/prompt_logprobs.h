#pragma once

#include "absl/status/status.h"
#include "engine/model/model.h"
#include "engine/sequence.h"

namespace mea {

// Adds the log-probabilities that a step has computed to sequence.prompt_logprobs: the prompt up to
// token `end`, where token t is row `first_row` + t of the batch. Row t predicts token t + 1. A
// prompt that is recomputed after a preemption has them already. Waits for the device and returns
// its status.
absl::Status ExtendPromptLogprobs(Model& model, int first_row, int end, Sequence& sequence);

}  // namespace mea
