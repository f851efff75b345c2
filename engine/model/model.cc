#include "engine/model/model.h"

#include <utility>

#include "engine/model/backend_limits.h"
#include "kernels/status_macros.h"

namespace mea {

absl::StatusOr<std::unique_ptr<Model>> Model::Create(ModelConfig config, ModelWeights weights,
                                                     Backend* backend, ModelLimits limits,
                                                     const LoadProgress& progress) {
  const std::vector<StagePlace> place = OnOneDevice(backend, config);
  return Create(std::move(config), std::move(weights), place, limits, progress);
}

absl::StatusOr<std::unique_ptr<Model>> Model::Create(ModelConfig config, ModelWeights weights,
                                                     std::span<const StagePlace> places,
                                                     ModelLimits limits,
                                                     const LoadProgress& progress) {
  std::vector<BackendBytes> backend_bytes;
  for (const auto& [backend, layers] : places) {
    const BackendLimits backend_limits = MakeBackendLimits(config, limits, layers);
    MEA_ASSIGN_OR_RETURN(backend_bytes.emplace_back(), backend->PlannedBytes(backend_limits));
    MEA_RETURN_IF_ERROR(backend->Prepare(backend_limits));
  }
  MEA_ASSIGN_OR_RETURN(ModelWeights placed,
                       PlaceWeights(config, std::move(weights), places, progress));
  std::unique_ptr<Model> model(
      new Model(std::move(config), std::move(placed), limits, std::move(backend_bytes)));
  for (const StagePlace& place : places) {
    MEA_ASSIGN_OR_RETURN(
        model->stages_.emplace_back(),
        Stage::Create(&model->config_, &model->weights_, &model->hooks_, place, limits));
  }
  return model;
}

// The residual goes from stage to stage. Each back end does its part in order with its others, so
// it may still compute the step before when the first one begins this one.
void Model::Forward(const Batch& batch, const KvCache& kv) {
  SendDraws(batch);
  for (size_t i = 0; i < stages_.size(); ++i) {
    stages_[i]->SetInputs(batch);
    if (i > 0) stages_[i]->Receive(*stages_[i - 1]);
    stages_[i]->Run(batch, kv);
  }
}

// Tokens that the step before draws are embedded elsewhere than they are drawn.
void Model::SendDraws(const Batch& batch) {
  const int num_drawn = batch.num_drawn_rows();
  if (stages_.size() == 1 || num_drawn == 0) return;
  Backend& from = backend();
  Backend& to = stages_.front()->backend();
  to.Receive({.sender = &from,
              .from = from.drawn().Rows(0, num_drawn),
              .to = to.drawn().Rows(0, num_drawn)});
}

void Model::Begin(const Batch& batch) {
  stages_.front()->SetInputs(batch);
  stages_.front()->Rotate();
}

int64_t Model::RecordEvent() {
  const int64_t event = num_events_++;
  for (const auto& stage : stages_) stage->RecordEvent(event);
  return event;
}

// Every stage is asked: one that has failed gave the others nothing that can be trusted.
absl::Status Model::WaitEvent(int64_t event) {
  absl::Status status;
  for (const auto& stage : stages_) status.Update(stage->WaitEvent(event));
  return status;
}

absl::Status Model::Synchronize() {
  absl::Status status;
  for (const auto& stage : stages_) status.Update(stage->backend().Synchronize());
  return status;
}

BackendCounters Model::counters() const {
  BackendCounters sum;
  for (const auto& stage : stages_) {
    const BackendCounters part = stage->backend().counters();
    sum.graph_replays += part.graph_replays;
    sum.eager_runs += part.eager_runs;
    sum.graphs += part.graphs;
    sum.product_searches += part.product_searches;
    sum.allocations += part.allocations;
    sum.graph_bytes += part.graph_bytes;
  }
  return sum;
}

std::vector<Backend*> Model::backends() const {
  std::vector<Backend*> backends;
  for (const auto& stage : stages_) backends.push_back(&stage->backend());
  return backends;
}

int64_t Model::workspace_bytes() const {
  int64_t bytes = 0;
  for (const auto& stage : stages_) bytes += stage->workspace_bytes();
  return bytes;
}

KvLayout Model::MakeKvLayout(KvDTypes dtype, int page_size) const {
  ModelLimits limits = limits_;
  limits.page_size = page_size;
  KvLayout layout = mea::MakeKvLayout(config_, dtype, limits);
  std::vector<LayerRange> ranges;
  for (const auto& stage : stages_) ranges.push_back(stage->layers());
  PutOnRanks(ranges, layout);
  return layout;
}

}  // namespace mea
