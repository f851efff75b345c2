#pragma once

#include <cstdint>
#include <span>

#include "engine/attention/variant.h"
#include "engine/config/config.h"
#include "kernels/cost.h"

namespace mea {

// Least bytes and flops of a forward pass over `sequences` and of the logits of `logit_rows` of its
// rows: the sum of kernels/cost over the ops of Model::Forward and Model::Logits, of experts as
// many as rows that choose evenly reach. Drawing the tokens reads those logits again and is left
// out.
OpCost StepCost(const ModelConfig& config, const StepDTypes& dtypes,
                std::span<const SequenceLengths> sequences, int64_t logit_rows);

}  // namespace mea
