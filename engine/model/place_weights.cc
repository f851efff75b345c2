#include "engine/model/place_weights.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <utility>
#include <vector>

#include "engine/checkpoint/non_finite.h"
#include "engine/model/in_parallel.h"
#include "kernels/machine.h"

namespace mea {
namespace {

constexpr int64_t kStagingBytes = int64_t{32} << 20;
// Checked by one thread at least.
constexpr int64_t kPieceBytes = int64_t{1} << 20;

TensorView Bytes(void* data, int64_t count, Device device) {
  // The narrowest dtype there is has two bytes; every tensor is a whole number of them.
  return TensorView::Dense(data, DType::kBf16, {1, count / 2}, device);
}

// Copies host memory to a device through two pinned buffers: one is filled while the other travels.
class Uploader {
 public:
  static absl::StatusOr<Uploader> Create(Backend* backend, int64_t bytes_total,
                                         const LoadProgress& progress) {
    Uploader uploader(backend, bytes_total, progress);
    const std::array<int64_t, 1> shape = {kStagingBytes / 2};
    for (Tensor& buffer : uploader.staging_) {
      absl::StatusOr<Tensor> tensor = backend->AllocateHost(shape, DType::kBf16);
      if (!tensor.ok()) return tensor.status();
      buffer = *std::move(tensor);
    }
    return uploader;
  }

  // `unchecked`: the tensor that nobody has looked at yet, or null.
  absl::Status Copy(TensorView host, TensorView device, const StoredTensor* unchecked) {
    MEA_CHECK(host.is_dense() && device.is_dense() && host.dtype == device.dtype);
    const int64_t num_bytes = host.num_elements() * DTypeSize(host.dtype);
    for (int64_t first = 0; first < num_bytes; first += kStagingBytes) {
      const int64_t count = std::min(kStagingBytes, num_bytes - first);
      void* buffer = staging_[next_].view().data;
      next_ = 1 - next_;
      std::memcpy(buffer, static_cast<const char*>(host.data) + first, count);
      if (unchecked != nullptr && !IsFinite(buffer, host.dtype, count)) {
        return NonFiniteError(*unchecked, host.dtype);
      }
      if (absl::Status status = backend_->Synchronize(); !status.ok()) return status;
      backend_->Upload(Bytes(buffer, count, Device::kCpu),
                       Bytes(static_cast<char*>(device.data) + first, count, device.device));
      bytes_done_ += count;
      if (progress_) progress_("weights to the device", bytes_done_, bytes_total_);
    }
    return absl::OkStatus();
  }

 private:
  static bool IsFinite(const void* buffer, DType dtype, int64_t num_bytes) {
    const int64_t size = DTypeSize(dtype);
    std::atomic<bool> finite = true;
    InParallel(num_bytes / size, kPieceBytes / size, UsableCpus(), [&](int64_t begin, int64_t end) {
      const char* piece = static_cast<const char*>(buffer) + begin * size;
      if (FindNonFinite(piece, dtype, end - begin) >= 0) finite = false;
    });
    return finite;
  }

  Uploader(Backend* backend, int64_t bytes_total, const LoadProgress& progress)
      : backend_(backend), bytes_total_(bytes_total), progress_(progress) {}

  Backend* backend_;
  int64_t bytes_total_;
  int64_t bytes_done_ = 0;
  LoadProgress progress_;
  std::array<Tensor, 2> staging_;
  int next_ = 0;
};

// Moves the tensors of one model, one group of neighbours after the other.
class Placer {
 public:
  Placer(Backend* backend, Uploader* uploader, const ModelWeights& host, ModelWeights* weights)
      : backend_(backend), uploader_(uploader), host_(host), weights_(weights) {}

  // Tensors that differ in their first dimension at most become one run of device memory. Absent
  // ones stay absent.
  absl::Status Group(const std::vector<TensorView*>& members) {
    int64_t num_elements = 0;
    for (const TensorView* member : members) num_elements += member->num_elements();
    if (num_elements == 0) return absl::OkStatus();
    const DType dtype = members.front()->dtype;
    const std::array<int64_t, 1> shape = {num_elements};
    absl::StatusOr<Tensor> run = backend_->Allocate(shape, dtype);
    if (!run.ok()) return run.status();
    int64_t begin = 0;
    for (TensorView* member : members) {
      if (member->empty()) continue;
      MEA_CHECK(member->dtype == dtype);
      const TensorView part = run->view().Rows(begin, member->num_elements());
      const TensorView placed = TensorView::Dense(
          part.data, dtype, std::span(member->shape).first(member->rank), backend_->device());
      const auto unchecked = host_.unchecked.find(member->data);
      if (absl::Status s = uploader_->Copy(
              *member, placed, unchecked == host_.unchecked.end() ? nullptr : unchecked->second);
          !s.ok()) {
        return s;
      }
      begin += member->num_elements();
      *member = placed;
    }
    weights_->num_bytes += run->num_bytes();
    weights_->storage.push_back(*std::move(run));
    return absl::OkStatus();
  }

  absl::Status Layer(LayerWeights& w) {
    const std::vector<std::vector<TensorView*>> groups = {
        {&w.input_norm},
        {&w.q_proj, &w.k_proj, &w.v_proj},
        {&w.q_bias, &w.k_bias, &w.v_bias},
        {&w.o_proj},
        {&w.o_bias},
        {&w.q_norm},
        {&w.k_norm},
        {&w.mix.key},
        {&w.mix.value},
        {&w.head_norm_gain},
        {&w.knock_v_gate, &w.knock_v_up},
        {&w.knock_v_down},
        {&w.query_mix},
        {&w.collapse},
        {&w.post_attention_norm},
        {&w.gate_proj, &w.up_proj},
        {&w.gate_bias, &w.up_bias},
        {&w.down_proj},
        {&w.down_bias},
    };
    for (const std::vector<TensorView*>& group : groups) {
      if (absl::Status s = Group(group); !s.ok()) return s;
    }
    return w.experts.empty() ? absl::OkStatus() : Experts(w);
  }

 private:
  // Each expert as far from the one before as the next.
  absl::Status Experts(LayerWeights& w) {
    std::vector<TensorView*> gate_up, down;
    for (Expert& expert : w.experts) {
      gate_up.insert(gate_up.end(), {&expert.gate, &expert.up});
      down.push_back(&expert.down);
    }
    absl::Status status = Group({&w.router});
    if (status.ok()) status = Group(gate_up);
    if (status.ok()) status = Group(down);
    return status;
  }

  Backend* const backend_;
  Uploader* const uploader_;
  const ModelWeights& host_;
  ModelWeights* const weights_;
};

}  // namespace

absl::StatusOr<Tensor> Place(TensorView host, Backend& backend) {
  absl::StatusOr<Tensor> placed =
      backend.Allocate(std::span(host.shape).first(host.rank), host.dtype);
  if (!placed.ok()) return placed.status();
  backend.Upload(host, placed->view());
  if (absl::Status status = backend.Synchronize(); !status.ok()) return status;
  return placed;
}

absl::StatusOr<ModelWeights> PlaceWeights(ModelWeights host, Backend& backend,
                                          const LoadProgress& progress) {
  if (host.embedding.device == backend.device()) {
    host.unchecked.clear();  // the checkpoint may go
    return host;
  }
  absl::StatusOr<Uploader> uploader = Uploader::Create(&backend, host.num_bytes, progress);
  if (!uploader.ok()) return uploader.status();
  const bool tied = host.lm_head.data == host.embedding.data;

  // A copy of the views, while `host` keeps their memory alive.
  ModelWeights placed{.embedding = host.embedding,
                      .layers = host.layers,
                      .final_norm = host.final_norm,
                      .lm_head = tied ? TensorView{} : host.lm_head,
                      .storage = {},
                      .unchecked = {}};
  Placer placer(&backend, &*uploader, host, &placed);
  absl::Status status = placer.Group({&placed.embedding});
  for (LayerWeights& layer : placed.layers) {
    if (status.ok()) status = placer.Layer(layer);
  }
  if (status.ok()) status = placer.Group({&placed.final_norm});
  if (status.ok()) status = placer.Group({&placed.lm_head});
  if (status.ok()) status = backend.Synchronize();
  if (!status.ok()) return status;
  if (tied) placed.lm_head = placed.embedding;
  return placed;
}

}  // namespace mea
