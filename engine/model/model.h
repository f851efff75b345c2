#pragma once

#include <functional>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/batch.h"
#include "engine/config/config.h"
#include "engine/model/cache_layout.h"
#include "engine/model/model_weights.h"
#include "engine/model/row_probe.h"
#include "engine/model/stage.h"
#include "engine/model/stage_place.h"
#include "engine/model/workspace.h"
#include "kernels/backend.h"
#include "kvcache/kv_cache.h"

namespace mea {

// A decoder of the Llama family: weights, and stages that compute its layers, each on a back end of
// its own. Keeps no state of any request: that is in the cache. Engine thread only; the back ends
// must outlive it.
class Model {
 public:
  // `progress` reports the copy to a device; on the host there is none.
  static absl::StatusOr<std::unique_ptr<Model>> Create(ModelConfig config, ModelWeights weights,
                                                       Backend* backend, ModelLimits limits,
                                                       const LoadProgress& progress = {});
  // The same over several back ends of one kind. `places` together have every layer, in order.
  static absl::StatusOr<std::unique_ptr<Model>> Create(ModelConfig config, ModelWeights weights,
                                                       std::span<const StagePlace> places,
                                                       ModelLimits limits,
                                                       const LoadProgress& progress = {});

  // Runs every layer over the batch's tokens and appends their keys and values to the cache. The
  // batch must not change until the back end has been synchronised.
  void Forward(const Batch& batch, const KvCache& kv);
  // Called after every layer of a Forward: a step may take long, a layer may not.
  void set_on_layer(std::function<void()> on_layer) { hooks_.on_layer = std::move(on_layer); }
  // Shows a layer's projections as the product yields them, before norm and RoPE: with biases,
  // except for keys of a cache of integers. Only on the host; for studying a model, not for
  // serving.
  using OnProjections = decltype(ForwardHooks::on_projections);
  void set_on_projections(OnProjections on_projections) {
    hooks_.on_projections = std::move(on_projections);
  }

  // ---- a pass in pieces, on one host: for studying a model, not for serving. After Begin, blocks
  // of any layers may be computed in any order, with weights that need not be the model's.
  void Begin(const Batch& batch);
  // Of the batch's rows: what a block reads, and what it adds to the residual.
  TensorView normed() const { return stages_.front()->normed(); }
  TensorView delta() const { return stages_.front()->delta(); }
  // From normed rows to what o_proj reads: appends keys and values to the cache, and attends.
  TensorView Attended(int layer, const LayerWeights& w, const KvCache& kv) {
    return stages_.front()->Attended(layer, w, kv);
  }
  // From normed rows to what down_proj of a dense layer reads.
  TensorView Activated(const LayerWeights& w) { return stages_.front()->Activated(w); }
  // From normed rows to what a layer with experts adds.
  void Experts(const LayerWeights& w) { stages_.front()->Experts(w); }

  // Logits of rows of the last Forward: [rows.size(), vocab] in the back end's wide dtype, at most
  // max_logit_rows of them. Overwritten by the next call.
  TensorView Logits(std::span<const int32_t> rows) { return stages_.back()->Logits(rows); }

  // Which rows of the last Forward are finite: a key or value that is not finite spoils its own
  // row.
  RowProbe::Answer ProbeRows() { return stages_.back()->ProbeRows(); }

  // As of a back end, of all of them.
  int64_t RecordEvent();
  [[nodiscard]] absl::Status WaitEvent(int64_t event);
  [[nodiscard]] absl::Status Synchronize();
  BackendCounters counters() const;

  // The layout of a cache for this model, on the same back ends.
  KvLayout MakeKvLayout(KvDTypes dtype, int page_size) const;

  const ModelConfig& config() const { return config_; }
  const ModelLimits& limits() const { return limits_; }
  // Where logits are, and tokens drawn.
  Backend& backend() const { return stages_.back()->backend(); }
  std::vector<Backend*> backends() const;  // of the stages
  int64_t weights_bytes() const { return weights_.num_bytes; }
  const ModelWeights& weights() const { return weights_; }
  // Activations and a step's arrays.
  int64_t workspace_bytes() const;
  // One for each back end.
  std::span<const std::unique_ptr<Stage>> stages() const { return stages_; }
  // The memory that each back end takes for this model.
  std::span<const BackendBytes> backend_bytes() const { return backend_bytes_; }

 private:
  Model(ModelConfig config, ModelWeights weights, ModelLimits limits,
        std::vector<BackendBytes> backend_bytes)
      : config_(std::move(config)),
        weights_(std::move(weights)),
        limits_(limits),
        backend_bytes_(std::move(backend_bytes)) {}

  void SendDraws(const Batch& batch);

  const ModelConfig config_;
  const ModelWeights weights_;
  const ModelLimits limits_;
  const std::vector<BackendBytes> backend_bytes_;
  ForwardHooks hooks_;
  std::vector<std::unique_ptr<Stage>> stages_;
  int64_t num_events_ = 0;
};

}  // namespace mea
