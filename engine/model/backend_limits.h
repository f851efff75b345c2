#pragma once

#include "engine/config/config.h"
#include "engine/model/workspace.h"
#include "kernels/backend.h"

namespace mea {

// What its layers with experts look like to kernels.
MoeShape MoeShapeOf(const ModelConfig& config);

// What a forward pass of this model within these limits asks of its back end.
BackendLimits MakeBackendLimits(const ModelConfig& config, const ModelLimits& limits);

}  // namespace mea
