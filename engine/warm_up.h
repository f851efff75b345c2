#pragma once

#include "absl/status/status.h"
#include "engine/model/model.h"
#include "engine/weights/weights.h"
#include "kvcache/kv_cache.h"

namespace mea {

// Where the back end learns from the first steps of a size: runs the steps of every size that
// decode steps are padded to, and one of max_batch_tokens of prompts, so that no request waits for
// that later. Before the first request; the cache keeps its contents.
absl::Status WarmUp(Model& model, const KvCache& kv, const LoadProgress& progress);

}  // namespace mea
