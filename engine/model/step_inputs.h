#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "engine/batch.h"
#include "engine/model/workspace.h"
#include "kernels/backend.h"

namespace mea {

// A step's arrays where the back end reads them: the batch's own on the host, copies at addresses
// that never change on a device. Engine thread only.
class StepInputs {
 public:
  // Room for every batch within the limits, of a model with this context and so many groups of
  // layers in the cache.
  static absl::StatusOr<StepInputs> Create(const ModelLimits& limits, int max_position,
                                           int num_groups, Backend* backend);
  // Device memory that Create would allocate, and that it did.
  static int64_t PlannedBytes(const ModelLimits& limits, int max_position, int num_groups);
  int64_t num_bytes() const { return flat_.num_bytes() + pages_.num_bytes() + rows_.num_bytes(); }

  // Makes the views below those of `batch`, which on the host stays as it is until the next Set. On
  // a device two steps may be under way: the host memory of a call is used again by the call after
  // the next, before which the back end has been waited for.
  void Set(const Batch& batch);
  // The rows whose logits are wanted next, likewise; filled up to `num_rows` with the first.
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
  // Host memory of two calls, and whose turn it is.
  class Staging {
   public:
    Tensor parts[2];
    TensorView Next() { return parts[turn_ ^= 1].view(); }
    TensorView present() const { return parts[turn_].view(); }

   private:
    int turn_ = 0;
  };

  // On a device: one flat array of everything but the page tables, so that a step needs two copies.
  Tensor flat_, pages_, rows_;
  Staging host_flat_, host_pages_, host_rows_;
};

}  // namespace mea
