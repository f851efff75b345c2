#pragma once

#include <cstdint>

#include "server/openai/json.h"
#include "server/page/load_history.h"
#include "server/serving.h"

namespace mea {

// What the page shows: the model, the server, cache and load now, who is in flight, and the samples
// of `history` after number `after`. Its size is bounded.
openai::Json StatusJson(Serving& serving, const LoadHistory& history, int64_t after);

}  // namespace mea
