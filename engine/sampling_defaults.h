#pragma once

#include "engine/config/config.h"
#include "engine/request.h"

namespace mea {

// What a request that sets nothing gets: generation_config.json, then the built-in defaults.
inline SamplingParams DefaultSampling(const GenerationDefaults& defaults) {
  SamplingParams sampling;
  sampling.temperature = defaults.temperature.value_or(sampling.temperature);
  if (!defaults.do_sample.value_or(true)) sampling.temperature = 0;
  sampling.top_k = defaults.top_k.value_or(sampling.top_k);
  sampling.top_p = defaults.top_p.value_or(sampling.top_p);
  sampling.min_p = defaults.min_p.value_or(sampling.min_p);
  sampling.repetition_penalty = defaults.repetition_penalty.value_or(sampling.repetition_penalty);
  return sampling;
}

}  // namespace mea
