#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "engine/config/config.h"
#include "engine/model/model_weights.h"
#include "kernels/backend.h"

namespace mea {

// What the cache holds of a shape whose speed is measured. The uncompressed twins store every
// virtual head and differ in nothing else: by the same kernels, through a mix that is the identity,
// or as plain attention without one.
enum class HeadStorage : uint8_t { kAsConfigured, kOneHot, kPlain };

// "one-hot" or "plain".
absl::StatusOr<HeadStorage> ParseUncompressed(const std::string& name);
// "mea", "iha" or "plain" as the configuration has it, "one-hot", "plain".
std::string StorageName(HeadStorage storage, const ModelConfig& config);

// The configuration of the twin.
ModelConfig WithStorage(ModelConfig config, HeadStorage storage);
// Makes every mix of these weights (h' = h), which are the back end's to read, the identity.
absl::Status MakeMixesOneHot(ModelWeights& weights, Backend& backend);

}  // namespace mea
