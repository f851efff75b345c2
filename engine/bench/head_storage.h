#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "engine/config/config.h"
#include "engine/model/model_weights.h"
#include "kernels/backend.h"

namespace mea {

// Which heads the cache stores when the speed of a shape is measured. The uncompressed twins store
// every virtual head and are otherwise equal: one uses the same kernels with an identity mix, the
// other plain attention without a mix.
enum class HeadStorage : uint8_t { kAsConfigured, kOneHot, kPlain };

// "one-hot" or "plain".
absl::StatusOr<HeadStorage> ParseUncompressed(const std::string& name);
// "mea", "iha" or "plain" as the configuration has it, "one-hot", "plain".
std::string StorageName(HeadStorage storage, const ModelConfig& config);

// The configuration of the twin.
ModelConfig WithStorage(ModelConfig config, HeadStorage storage);
// Sets every mix of these weights (h' = h, in the back end's memory) to the identity.
absl::Status MakeMixesOneHot(ModelWeights& weights, Backend& backend);

}  // namespace mea
