#pragma once

#include "engine/device.h"
#include "engine/engine.h"
#include "engine/text/tokenizer.h"
#include "server/log.h"

namespace mea {

// What a server found at its start: the machine before it was loaded, what a request that sets
// nothing gets, and where files of the checkpoint contradict each other. For a server that serves:
// a start that fails is one line, and that is the failure.
void LogStart(const MachineLimits& machine, const Engine& engine, const Tokenizer& tokenizer,
              Log& log);

}  // namespace mea
