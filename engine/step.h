#pragma once

#include <cstdint>
#include <vector>

#include "absl/time/time.h"
#include "engine/batch.h"
#include "engine/engine.h"
#include "engine/model/row_probe.h"
#include "engine/sampler.h"
#include "engine/scheduler.h"

namespace mea {

// A token that a step draws: sequence->tokens[position], a placeholder until it is known.
struct Draw {
  Sequence* sequence = nullptr;
  int position = 0;
};

// One pass of the model, from EngineCore::Launch to Collect. Reused; engine thread only.
struct Step {
  explicit Step(int vocab_size) : sampler(vocab_size) {}

  Schedule schedule;
  Batch batch;
  std::vector<Draw> draws;
  std::vector<int32_t> draw_rows;  // of the batch, one per draw
  Sampler sampler;                 // a row per draw
  bool wants_prompt_logprobs = false;
  RowProbe::Answer probe;        // of the rows, if there are prompts among them
  bool draws_started = false;    // of the first group of rows
  bool lets_next_begin = false;  // the next step can be launched before this one has been collected
  int64_t event = 0;             // Backend::RecordEvent behind its last op
  StepReport report;
};

}  // namespace mea
