#pragma once

#include <array>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/attention/variant.h"
#include "engine/batch.h"
#include "engine/config/config.h"
#include "engine/model/key_biases.h"
#include "engine/model/model_weights.h"
#include "engine/model/rotations.h"
#include "engine/model/row_probe.h"
#include "engine/model/stage_place.h"
#include "engine/model/step_inputs.h"
#include "engine/model/workspace.h"
#include "kernels/backend.h"
#include "kvcache/kv_cache.h"

namespace mea {

// Who looks into a forward pass: see Model, whose they are.
struct ForwardHooks {
  std::function<void()> on_layer;
  std::function<void(int layer, const QkvViews& qkv)> on_projections;
};

// The layers of a model that one back end computes, with all that they need there but weights and
// cache. The first stage of a model embeds, the last has the output. Engine thread only; the back
// end and what belongs to the model must outlive it.
class Stage {
 public:
  // The back end is prepared, and the weights of these layers are there.
  static absl::StatusOr<std::unique_ptr<Stage>> Create(const ModelConfig* config,
                                                       const ModelWeights* weights,
                                                       const ForwardHooks* hooks, StagePlace place,
                                                       const ModelLimits& limits);

  // A step: its inputs, then the residual of the stage before, if there is one, then its layers.
  void SetInputs(const Batch& batch) { inputs_.Set(batch); }
  void Receive(Stage& before);
  void Run(const Batch& batch, const KvCache& kv);

  // The end of a step: an event behind all ops so far, by the model's number of it.
  void RecordEvent(int64_t event) { events_[event % 2] = backend_.RecordEvent(); }
  absl::Status WaitEvent(int64_t event) { return backend_.WaitEvent(events_[event % 2]); }

  // On the last stage.
  TensorView Logits(std::span<const int32_t> rows);
  RowProbe::Answer ProbeRows() { return probe_.Start(normed()); }

  // The pieces of a pass: see Model.
  void Rotate();
  TensorView normed() const { return workspace_.normed(num_rows()); }
  TensorView delta() const { return workspace_.delta(num_rows()); }
  TensorView Attended(int layer, const LayerWeights& w, const KvCache& kv);
  TensorView Activated(const LayerWeights& w);
  void Experts(const LayerWeights& w);

  Backend& backend() const { return backend_; }
  LayerRange layers() const { return layers_; }
  // Activations and a step's arrays; and what they would be, without the stage.
  int64_t workspace_bytes() const;
  static int64_t PlannedWorkspaceBytes(const ModelConfig& config, const ModelLimits& limits,
                                       LayerRange layers, Device device);

 private:
  Stage(const ModelConfig* config, const ModelWeights* weights, const ForwardHooks* hooks,
        StagePlace place, const ModelLimits& limits, Workspace workspace, StepInputs inputs,
        Rotations rotations, std::vector<Tensor> constants, RowProbe probe, KeyBiases key_biases);

  int num_rows() const { return static_cast<int>(inputs_.token_ids.shape[0]); }
  TensorView residual() const { return workspace_.residual(num_rows()); }
  void Layers(const KvCache& kv);
  // Both read workspace normed and write what they add to the residual to workspace delta.
  void Attention(int layer, const KvCache& kv);
  void FeedForward(int layer);

  const ModelConfig& config_;
  const ModelWeights& weights_;
  const ForwardHooks& hooks_;
  Backend& backend_;
  const LayerRange layers_;
  const ModelLimits limits_;
  const Workspace workspace_;
  StepInputs inputs_;
  const Rotations rotations_;
  const std::vector<Tensor> constants_;  // of the attention variant
  RowProbe probe_;
  const KeyBiases key_biases_;
  const AttentionVariant& attention_;
  std::vector<TensorView> variant_buffers_;  // of the last step's rows
  std::array<int64_t, 2> events_{};          // of the two steps that may be in flight
};

}  // namespace mea
