#pragma once

#include "kernels/backend.h"

namespace mea::reference {

// Backend::Moe as kernels/ops defines it.
void Moe(const MoeArgs& args);

}  // namespace mea::reference
