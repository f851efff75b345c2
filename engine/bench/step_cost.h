#pragma once

#include <cstdint>
#include <span>

#include "engine/attention/variant.h"
#include "engine/config/config.h"
#include "kernels/cost.h"

namespace mea {

// Least bytes and flops of a forward pass over `sequences` and of the logits of `logit_rows` of its
// rows: the sum of kernels/cost over the ops of Model::Forward and Model::Logits, with as many
// experts as rows reach that choose evenly. Drawing the tokens reads those logits again and is not
// counted.
OpCost StepCost(const ModelConfig& config, const StepDTypes& dtypes,
                std::span<const SequenceLengths> sequences, int64_t logit_rows);

}  // namespace mea
