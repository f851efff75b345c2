#pragma once

#include <functional>
#include <memory>
#include <span>
#include <utility>

#include "absl/status/statusor.h"
#include "engine/attention/variant.h"
#include "engine/batch.h"
#include "engine/config/config.h"
#include "engine/model/key_biases.h"
#include "engine/model/model_weights.h"
#include "engine/model/rotations.h"
#include "engine/model/row_probe.h"
#include "engine/model/step_inputs.h"
#include "engine/model/workspace.h"
#include "kernels/backend.h"
#include "kvcache/kv_cache.h"

namespace mea {

// The cache layout of a model of this configuration, for steps within these limits.
KvLayout MakeKvLayout(const ModelConfig& config, KvDTypes dtype, const ModelLimits& limits);

// A decoder of the Llama family: weights, workspace and attention variant on one back end. Keeps no
// state of any request: that is in the cache. Engine thread only; the back end must outlive it.
class Model {
 public:
  // `progress` reports the copy to a device; on the host there is none.
  static absl::StatusOr<std::unique_ptr<Model>> Create(ModelConfig config, ModelWeights weights,
                                                       Backend* backend, ModelLimits limits,
                                                       const LoadProgress& progress = {});

  // Runs every layer over the batch's tokens and appends their keys and values to the cache. The
  // batch must not change until the back end has been synchronised.
  void Forward(const Batch& batch, const KvCache& kv);
  // Called after every layer of a Forward: a step may take long, a layer may not.
  void set_on_layer(std::function<void()> on_layer) { on_layer_ = std::move(on_layer); }
  // Shows a layer's projections as the product yields them, before norm and RoPE: with biases,
  // except for keys of a cache of integers. Only on the host; for studying a model, not for
  // serving.
  using OnProjections = std::function<void(int layer, const QkvViews& qkv)>;
  void set_on_projections(OnProjections on_projections) {
    on_projections_ = std::move(on_projections);
  }

  // ---- a pass in pieces, on the host: for studying a model, not for serving. After Begin, blocks
  // of any layers may be computed in any order, with weights that need not be the model's.
  void Begin(const Batch& batch);
  // Of the batch's rows: what a block reads, and what it adds to the residual.
  TensorView normed() const { return workspace_.normed(num_rows()); }
  TensorView delta() const { return workspace_.delta(num_rows()); }
  // From normed rows to what o_proj reads: appends keys and values to the cache, and attends.
  TensorView Attended(int layer, const LayerWeights& w, const KvCache& kv);
  // From normed rows to what down_proj of a dense layer reads.
  TensorView Activated(const LayerWeights& w);
  // From normed rows to what a layer with experts adds.
  void Experts(const LayerWeights& w);

  // Logits of rows of the last Forward: [rows.size(), vocab] in the back end's wide dtype, at most
  // max_logit_rows of them. Overwritten by the next call.
  TensorView Logits(std::span<const int32_t> rows);

  // Which rows of the last Forward are finite: a key or value that is not finite spoils its own
  // row.
  RowProbe::Answer ProbeRows() { return probe_.Start(workspace_.normed(num_rows())); }

  // The layout of a cache for this model.
  KvLayout MakeKvLayout(KvDTypes dtype, int page_size) const {
    ModelLimits limits = limits_;
    limits.page_size = page_size;
    return mea::MakeKvLayout(config_, dtype, limits);
  }

  const ModelConfig& config() const { return config_; }
  const ModelLimits& limits() const { return limits_; }
  Backend& backend() const { return *backend_; }
  int64_t weights_bytes() const { return weights_.num_bytes; }
  const ModelWeights& weights() const { return weights_; }
  // Activations and a step's arrays.
  int64_t workspace_bytes() const {
    return workspace_.num_bytes() + inputs_.num_bytes() + rotations_.num_bytes() +
           BytesOf(constants_) + probe_.num_bytes() + key_biases_.num_bytes();
  }
  // What it would be, without the model.
  static int64_t PlannedWorkspaceBytes(const ModelConfig& config, const ModelLimits& limits,
                                       Device device);
  // The memory that the back end takes for this model.
  BackendBytes backend_bytes() const { return backend_bytes_; }

 private:
  Model(ModelConfig config, ModelWeights weights, Backend* backend, ModelLimits limits,
        BackendBytes backend_bytes, Workspace workspace, StepInputs inputs, Rotations rotations,
        std::vector<Tensor> constants, RowProbe probe, KeyBiases key_biases);

  static int64_t BytesOf(std::span<const Tensor> tensors);
  int num_rows() const { return static_cast<int>(inputs_.token_ids.shape[0]); }
  void Rotate();
  void Layers(const KvCache& kv);
  // Both read workspace normed and write what they add to the residual to workspace delta.
  void Attention(int layer, const KvCache& kv);
  void FeedForward(int layer);

  const ModelConfig config_;
  const ModelWeights weights_;
  Backend* const backend_;
  const ModelLimits limits_;
  const BackendBytes backend_bytes_;
  const Workspace workspace_;
  StepInputs inputs_;
  const Rotations rotations_;
  const std::vector<Tensor> constants_;  // of the attention variant
  RowProbe probe_;
  const KeyBiases key_biases_;
  const AttentionVariant& attention_;
  std::vector<TensorView> variant_buffers_;  // of the last Forward's rows
  std::function<void()> on_layer_;
  OnProjections on_projections_;
};

}  // namespace mea
