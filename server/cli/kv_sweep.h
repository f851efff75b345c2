#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "absl/status/status.h"
#include "engine/eval/kv_sweep.h"

namespace mea {

// What `mea eval --kv-sweep` takes beside the flags of `mea eval`.
struct KvSweepFlags {
  std::string formats;  // empty: no sweep
  std::string reference;
  int64_t tokens = KvSweepOptions().tokens;
};

// To be called when the flags that exclude it, --task, --kv-dtype and --weight-dtype, are there.
void AddKvSweep(CLI::App& command, KvSweepFlags& flags);

// Sweeps and prints. `options` has model, text and threads.
absl::Status SweepKv(const KvSweepFlags& flags, bool json, KvSweepOptions options);

}  // namespace mea
