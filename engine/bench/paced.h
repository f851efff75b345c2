#pragma once

#include <iosfwd>

#include "absl/status/status.h"
#include "engine/bench/engine_bench.h"

namespace mea {

// Measures a point whenever a line asks for it, until the input ends, so that another program can
// time mea and other engines one after the other. A line is "BATCH CONTEXT TOKENS", one of
// bench.points(); its answer is one line of JSON: {"results": [...]}, rows as WriteJson writes
// them, or {"error": TEXT} if there is no such point or its measurement fails.
void MeasureOnRequest(EngineBench& bench, std::istream& requests, std::ostream& answers);

}  // namespace mea
