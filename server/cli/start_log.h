#pragma once

#include "engine/device.h"
#include "engine/engine.h"
#include "engine/text/tokenizer.h"
#include "server/log.h"

namespace mea {

// What a server found at its start: the machine before loading, the defaults of requests, and
// contradictions between the checkpoint's files. Logged only once the server serves: a start that
// fails prints one line, the failure.
void LogStart(const MachineLimits& machine, const Engine& engine, const Tokenizer& tokenizer,
              Log& log);

}  // namespace mea
