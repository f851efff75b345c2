#pragma once

#include "engine/config/config.h"
#include "engine/model/stage_place.h"
#include "engine/model/workspace.h"
#include "kernels/backend.h"

namespace mea {

// What its layers with experts look like to kernels.
MoeShape MoeShapeOf(const ModelConfig& config);

// What these layers of a forward pass of this model within these limits ask of their back end.
BackendLimits MakeBackendLimits(const ModelConfig& config, const ModelLimits& limits,
                                LayerRange layers);

}  // namespace mea
