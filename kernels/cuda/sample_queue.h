#pragma once

#include <cuda_runtime_api.h>

#include <array>
#include <span>

#include "absl/status/status.h"
#include "kernels/backend.h"
#include "kernels/cuda/carver.h"
#include "kernels/cuda/runtime.h"

namespace mea::cuda {

// Backend::Sample and TokenLogprobs: parameters travel to the device, and results back, through
// pinned memory of a fixed size. Results wait there until Collect hands them to their callers.
// There are two slots of pinned memory, one for the ops up to an event, the other for those up to
// the next.
class SampleQueue {
 public:
  explicit SampleQueue(Runtime* runtime) : runtime_(runtime) {}

  // Memory for `limits`, owned by the caller. Device and host have the same parts, except for the
  // scratch memory.
  struct Buffers {
    SampleRow* rows = nullptr;       // [max_rows]
    LogitEdit* edits = nullptr;      // [max_edits]
    uint32_t* masks = nullptr;       // [max_rows, MaskWords(vocab)]
    SampledToken* tokens = nullptr;  // [max_rows]
    int32_t* targets = nullptr;      // [max_rows]
    float* logprobs = nullptr;       // [max_rows]
  };
  struct Scratch {
    Buffers device;
    std::array<Buffers, 2> host;  // by slot
    float* edited = nullptr;      // [max_rows, vocab]
    int max_rows = 0;
    int max_edits = 0;
  };
  static Scratch Carve(const BackendLimits& limits, Carver& device, Carver& host);
  void set_scratch(const Scratch& scratch) { scratch_ = scratch; }

  // Within an op of the runtime. More rows or edits than fit go in several parts, with a wait in
  // between.
  void Sample(const SampleArgs& args);
  void TokenLogprobs(const TokenLogprobsArgs& args);

  // Selects the slot for later ops.
  void Use(int slot) { slot_ = slot; }
  // Call it after waiting for the stream, without an error, up to the last op that used the slot.
  void Collect(int slot);
  // What the last Sample drew, on the device; fixed from set_scratch on.
  SampledToken* drawn() const { return scratch_.device.tokens; }
  int max_rows() const { return scratch_.max_rows; }

 private:
  // Where pending results go; at most one of them is not empty.
  struct Destination {
    std::span<SampledToken> tokens;
    std::span<float> logprobs;
  };

  Buffers& host() { return scratch_.host[slot_]; }
  // Makes the slot free for the next part.
  bool Flush();
  // Copies the first rows whose edits fit, with these and their masks, into pinned memory; returns
  // how many.
  int Stage(std::span<const SampleRow> rows, std::span<const LogitEdit> edits,
            std::span<const uint32_t> masks, int64_t mask_words);
  void Launch(TensorView logits, std::span<SampledToken> tokens);

  Runtime* const runtime_;
  Scratch scratch_;
  int num_staged_edits_ = 0;
  int num_staged_masks_ = 0;
  int slot_ = 0;
  std::array<Destination, 2> destinations_;  // by slot
};

}  // namespace mea::cuda
