#include "engine/bench/attention_bench.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <utility>

#include "engine/bench/rounds.h"
#include "engine/bench/step_cost.h"
#include "engine/weights/place_tensors.h"
#include "kernels/random_fill.h"
#include "kernels/status_macros.h"
#include "kvcache/kv_layout.h"

namespace mea {
namespace {

constexpr int kMostLayers = 256;

// What is timed: the last `tokens` query rows of sequences that see up to `context` tokens.
struct AttentionPoint {
  int batch = 1;
  int context = 0;
  int tokens = 1;
};

std::vector<AttentionPoint> MakePoints(const BenchOptions& options) {
  std::vector<AttentionPoint> points;
  for (const int batch : options.batches) {
    for (const int context : options.contexts) {
      points.push_back({.batch = batch, .context = context});
    }
  }
  for (const int chunk : options.prefill_chunks) {
    if (chunk == 0) continue;
    points.push_back({.context = chunk, .tokens = chunk});
    for (const int depth : options.contexts) {
      points.push_back({.context = depth + chunk, .tokens = chunk});
    }
  }
  return points;
}

// One attention layer, repeated over `num_layers` caches of random contents, on one back end.
class AttentionLoop {
 public:
  AttentionLoop(Backend* backend, const AttentionShape& shape, const AttentionPoint& point,
                const BenchOptions& options)
      : backend_(backend),
        shape_(shape),
        batch_(point.batch),
        context_(point.context),
        tokens_(point.tokens),
        page_size_(options.page_size) {
    pages_per_sequence_ = (context_ + page_size_ - 1) / page_size_;
    num_layers_ = static_cast<int>(
        std::clamp<int64_t>(options.beyond_caches_bytes / LayerBytes(), 1, kMostLayers));
  }

  int num_layers() const { return num_layers_; }
  int64_t LayerBytes() const {
    return int64_t{batch_} * pages_per_sequence_ * page_size_ * KvBytesPerToken(shape_.kv);
  }
  int64_t CacheBytes() const { return num_layers_ * LayerBytes(); }

  absl::Status Allocate(double scale, const UniformRange& mix_range) {
    const KvSpec& kv = shape_.kv;
    const int64_t pages = int64_t{num_layers_} * batch_ * pages_per_sequence_;
    const DType compute = backend_->compute_dtype();
    scale_ = scale;
    const int rows = batch_ * tokens_;
    absl::Status status = backend_->Prepare({.max_rows = rows,
                                             .max_seqs = batch_,
                                             .max_context = context_,
                                             .max_logit_rows = 1,
                                             .page_size = page_size_,
                                             .hidden_size = 8,
                                             .vocab_size = 8,
                                             .attention = {{.q_heads = shape_.q_heads,
                                                            .kv_heads = shape_.kv_heads,
                                                            .head_dim = kv.head_dim,
                                                            .window = shape_.window,
                                                            .is_composed = shape_.composed}}});
    const auto make = [&](Tensor& tensor, std::vector<int64_t> shape, DType dtype,
                          const UniformRange& range) {
      if (!status.ok()) return;
      absl::StatusOr<Tensor> allocated = backend_->Allocate(shape, dtype);
      status = allocated.status();
      if (!status.ok()) return;
      tensor = *std::move(allocated);
      status = FillRandom(*backend_, tensor.view(), range);
    };
    make(keys_, {pages, kv.key_heads, page_size_, kv.head_dim}, kv.dtype.keys, {.seed = 1});
    make(values_, {pages, kv.value_heads, page_size_, kv.head_dim}, kv.dtype.values, {.seed = 2});
    if (kv.key_norm_heads > 0) {
      make(key_norms_, {pages, kv.key_norm_heads, page_size_}, kv.key_norm_dtype(),
           {.low = 0.5f, .high = 1.5f});
    }
    make(q_, {rows, shape_.q_heads, kv.head_dim}, compute, {.seed = 3});
    make(out_, {rows, shape_.q_heads, kv.head_dim}, compute, {});
    if (shape_.composed) {
      make(key_mix_, {kv.key_heads, shape_.kv_heads}, DType::kF32, mix_range);
      make(value_mix_, {kv.value_heads, shape_.kv_heads}, DType::kF32, mix_range);
    }
    MEA_RETURN_IF_ERROR(status);
    return MakeInputs();
  }

  // All layers once: a graph of `key` where the back end makes graphs.
  absl::Status Run(int64_t key) {
    backend_->Run(key, [&] {
      for (int layer = 0; layer < num_layers_; ++layer) backend_->PagedAttention(Args(layer));
    });
    return backend_->Synchronize();
  }

 private:
  absl::Status MakeInputs() {
    q_offsets_.resize(batch_ + 1);
    for (int i = 0; i <= batch_; ++i) q_offsets_[i] = i * tokens_;
    kv_lens_.assign(batch_, context_);
    std::vector<int32_t> pages(int64_t{batch_} * pages_per_sequence_);
    std::iota(pages.begin(), pages.end(), 0);
    const TensorView table = TensorView::Of<int32_t>(pages).Reshape({batch_, pages_per_sequence_});
    for (const auto& [tensor, host] :
         {std::pair(&device_q_offsets_, TensorView::Of<int32_t>(q_offsets_)),
          std::pair(&device_kv_lens_, TensorView::Of<int32_t>(kv_lens_)),
          std::pair(&page_table_, table)}) {
      MEA_ASSIGN_OR_RETURN(*tensor, Place(host, *backend_));
    }
    return absl::OkStatus();
  }

  PagedAttentionArgs Args(int layer) const {
    const int64_t pages = int64_t{batch_} * pages_per_sequence_;
    PagedKvView kv{.spec = shape_.kv,
                   .page_size = page_size_,
                   .keys = keys_.view().Rows(layer * pages, pages),
                   .values = values_.view().Rows(layer * pages, pages)};
    if (shape_.kv.key_norm_heads > 0) {
      kv.key_norms = key_norms_.view().Rows(layer * pages, pages);
    }
    return {.q = q_.view(),
            .q_offsets = device_q_offsets_.view(),
            .kv_lens = device_kv_lens_.view(),
            .page_table = page_table_.view(),
            .host_q_offsets = q_offsets_,
            .host_kv_lens = kv_lens_,
            .kv = kv,
            .mix = {.key = key_mix_.view(), .value = value_mix_.view()},
            .kv_heads = shape_.kv_heads,
            .window = shape_.window,
            .scale = scale_,
            .out = out_.view()};
  }

  Backend* const backend_;
  const AttentionShape shape_;
  const int batch_, context_, tokens_, page_size_;
  int pages_per_sequence_ = 0;
  int num_layers_ = 0;
  double scale_ = 1;
  Tensor keys_, values_, key_norms_;  // [num_layers * pages, ...]
  Tensor key_mix_, value_mix_;        // absent where heads are not composed
  Tensor q_, out_;                    // [batch * tokens, q_heads, head_dim]
  Tensor device_q_offsets_, device_kv_lens_, page_table_;
  std::vector<int32_t> q_offsets_, kv_lens_;
};

// The identity is not a random mix, but it takes the same time.
UniformRange MixRange(const AttentionShape& shape) {
  const float bound = std::sqrt(3.0f / static_cast<float>(shape.kv.key_heads));
  return {.low = -bound, .high = bound, .seed = 4};
}

struct AttentionSubject {
  HeadStorage storage;
  ModelConfig config;
  std::unique_ptr<Backend> backend;
  std::unique_ptr<AttentionLoop> loop;
  int64_t next_key = 0;
};

absl::StatusOr<Contender> MakeContender(AttentionSubject& subject, const BenchOptions& options,
                                        const AttentionPoint& point) {
  const AttentionShape shape = AttentionShapeOf(subject.config, 0, options.kv_dtype);
  subject.loop.reset();  // before the next one is allocated
  subject.loop = std::make_unique<AttentionLoop>(subject.backend.get(), shape, point, options);
  Contender contender{.row = {.bench = BenchName("attention", point.tokens, options),
                              .shape = options.shape,
                              .system = "mea",
                              .storage = StorageName(subject.storage, subject.config),
                              .batch = point.batch,
                              .context = point.context,
                              .tokens = point.tokens,
                              .cache_bytes = subject.loop->LayerBytes()},
                      .runs_at_once = subject.loop->num_layers()};
  const int64_t share = options.max_cache_bytes / std::ssize(options.storages);
  absl::Status status = absl::OkStatus();
  if (share > 0 && subject.loop->CacheBytes() > share) {
    status = absl::ResourceExhaustedError("does not fit");
  } else {
    status = subject.loop->Allocate(1.0 / std::sqrt(shape.kv.head_dim), MixRange(shape));
  }
  if (absl::IsResourceExhausted(status)) {
    subject.loop.reset();
    contender.row.skipped = "does not fit";
    return contender;
  }
  MEA_RETURN_IF_ERROR(status);
  AttentionShape costed = shape;
  costed.composed &= subject.storage != HeadStorage::kOneHot;
  contender.row.cost = PagedAttentionCost(
      costed,
      std::vector<SequenceLengths>(point.batch, {.q_len = point.tokens, .kv_len = point.context}),
      subject.backend->compute_dtype());
  contender.run = [loop = subject.loop.get(), key = subject.next_key++] { return loop->Run(key); };
  return contender;
}

}  // namespace

absl::StatusOr<std::vector<BenchRow>> BenchAttention(const ModelConfig& config,
                                                     const BenchOptions& options,
                                                     const BackendFactory& backends,
                                                     const RowObserver& observer) {
  MEA_ASSIGN_OR_RETURN(std::unique_ptr<RooflineMeter> meter, MakeMeter(options, backends));
  std::vector<AttentionSubject> subjects;
  for (const HeadStorage storage : options.storages) {
    MEA_ASSIGN_OR_RETURN(std::unique_ptr<Backend> backend, backends());
    subjects.push_back({storage, WithStorage(config, storage), std::move(backend), nullptr});
  }

  std::vector<BenchRow> rows;
  for (const AttentionPoint& point : MakePoints(options)) {
    std::vector<Contender> contenders;
    for (AttentionSubject& subject : subjects) {
      MEA_ASSIGN_OR_RETURN(Contender contender, MakeContender(subject, options, point));
      contenders.push_back(std::move(contender));
    }
    MEA_RETURN_IF_ERROR(MeasureSideBySide(contenders, options, *meter));
    for (Contender& contender : contenders) {
      if (observer) observer(contender.row);
      rows.push_back(std::move(contender.row));
    }
  }
  return rows;
}

}  // namespace mea
