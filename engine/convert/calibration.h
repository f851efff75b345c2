#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/eval/scores.h"

namespace mea::convert {

// Tokens of each part, at most.
struct TextShares {
  int64_t learn = 0;
  int64_t measure = 0;
  int64_t held_out = 0;
};

// A text as token ids: documents to learn from, to measure choices on, and to judge the result by.
// The latter two are spread over the whole text.
struct CalibrationText {
  Documents learn;
  Documents measure;
  Documents held_out;
  bool is_apart = true;  // no document is in two parts; false for a text of fewer than 4
};

// NOT_FOUND or INVALID_ARGUMENT, naming the file, if it cannot be read or is too short.
absl::StatusOr<CalibrationText> ReadCalibrationText(const std::string& file,
                                                    const Checkpoint& checkpoint,
                                                    const TextShares& shares);

// No document is longer than this many tokens: they attend to each other.
int CalibrationWindow(const ModelConfig& config);

}  // namespace mea::convert
