#pragma once

#include "server/serving.h"

namespace mea::fuzz {

// What a call needs, before a fake engine that never computes; made once.
const Serving& FakeServing();

}  // namespace mea::fuzz
