#pragma once

#include "absl/status/status.h"
#include "engine/model/model.h"
#include "engine/sequence.h"

namespace mea {

// Adds to sequence.prompt_logprobs what a step has computed: its prompt up to token `end`, of which
// token t is row `first_row` + t of the batch. Row t predicts token t + 1. A prompt computed anew
// after a preemption has them already. Waits for the device; its status.
absl::Status ExtendPromptLogprobs(Model& model, int first_row, int end, Sequence& sequence);

}  // namespace mea
