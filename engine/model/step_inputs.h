#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "engine/batch.h"
#include "engine/model/workspace.h"
#include "kernels/backend.h"

namespace mea {

// A step's arrays where the back end reads them: the batch's own arrays on the host, copies at
// fixed addresses on a device. Engine thread only.
class StepInputs {
 public:
  // Room for every batch within the limits, for a model with this context and this many groups of
  // layers in the cache.
  static absl::StatusOr<StepInputs> Create(const ModelLimits& limits, int max_position,
                                           int num_groups, Backend* backend);
  // Device memory that Create would allocate, and that it did.
  static int64_t PlannedBytes(const ModelLimits& limits, int max_position, int num_groups);
  int64_t num_bytes() const { return flat_.num_bytes() + pages_.num_bytes() + rows_.num_bytes(); }

  // Makes the views below those of `batch`, which on the host must not change until the next Set.
  // On a device two steps may be in flight: the second call from now reuses the host memory of this
  // one, and the caller waits for the back end before that.
  void Set(const Batch& batch);
  // Likewise the rows whose logits are needed next, padded to `num_rows` with the first.
  TensorView SetRows(std::span<const int32_t> rows, int num_rows);

  TensorView token_ids, positions;     // [num_tokens]
  TensorView q_offsets;                // [num_seqs + 1]
  TensorView kv_lens;                  // [num_seqs]
  std::vector<TensorView> slots;       // [num_groups] of [num_tokens]
  std::vector<TensorView> page_table;  // [num_groups] of [num_seqs, max_pages]
  std::span<const int32_t> host_q_offsets, host_kv_lens;

 private:
  // The elements [begin, begin + host.size()) of the flat array, filled from `host`.
  TensorView Fill(int64_t begin, TensorView host);

  void SetPageTables(const Batch& batch);

  Backend* backend_ = nullptr;
  ModelLimits limits_;
  int num_groups_ = 1;
  // Host memory for two calls, used alternately.
  class Staging {
   public:
    Tensor parts[2];
    TensorView Next() { return parts[current_ ^= 1].view(); }
    TensorView present() const { return parts[current_].view(); }

   private:
    int current_ = 0;
  };

  // On a device: one flat array of everything except the page tables, so a step needs two copies.
  Tensor flat_, pages_, rows_;
  Staging host_flat_, host_pages_, host_rows_;
};

}  // namespace mea
