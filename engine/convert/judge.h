#pragma once

#include "absl/status/statusor.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/convert/calibration.h"
#include "engine/convert/convert.h"
#include "engine/convert/work_dir.h"
#include "engine/eval/reader.h"

namespace mea::convert {

// Measures the whole converted model on the held-out text, and beside it the plain model with its
// cache in fewer bits. What was measured is kept in `work`.
absl::StatusOr<Judgement> Judge(const Checkpoint& plain, const Checkpoint& converted,
                                const CalibrationText& text, int num_threads, WorkDir& work,
                                const TokensRead& progress);

}  // namespace mea::convert
