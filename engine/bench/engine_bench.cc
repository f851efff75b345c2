#include "engine/bench/engine_bench.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/bench/rounds.h"
#include "engine/bench/step_cost.h"
#include "engine/bench/stepper.h"
#include "engine/load.h"
#include "kernels/status_macros.h"

namespace mea {
namespace {

// For a device, which runs one step after the other without a pause.
constexpr int kStepsAtOnce = 4;

std::vector<StepPoint> MakePoints(const EngineBenchOptions& options) {
  std::vector<StepPoint> points;
  for (const int context : options.contexts) {
    for (const int batch : options.batches) points.push_back({.batch = batch, .context = context});
    if (options.equal_memory_bytes > 0) points.push_back({.context = context});
  }
  for (const int chunk : options.prefill_chunks) {
    if (chunk == 0) continue;
    points.push_back({.batch = 1, .context = chunk, .tokens = chunk});
    for (const int depth : options.contexts) {
      points.push_back({.batch = 1, .context = depth + chunk, .tokens = chunk});
    }
  }
  return points;
}

// One model that is measured. Members are destroyed in reverse order: all use the back end.
struct Subject {
  HeadStorage storage = HeadStorage::kAsConfigured;
  DType matrix_dtype = DType::kBf16;
  DType output_dtype = DType::kBf16;
  std::unique_ptr<Backend> backend;
  std::unique_ptr<Model> model;
  KvLayout layout;
  std::unique_ptr<KvCache> kv;
  std::unique_ptr<Stepper> stepper;
  std::vector<int> batches;          // [points] sequences of each
  std::vector<std::string> skipped;  // [points] why not, or empty
};

class LoadedBench : public EngineBench {
 public:
  LoadedBench(const ModelConfig& config, const EngineBenchOptions& options,
              std::unique_ptr<RooflineMeter> meter)
      : config_(config), options_(options), points_(MakePoints(options)), meter_(std::move(meter)) {
    for (const StepPoint& point : points_) {
      config_.max_position = std::max(config_.max_position, point.context);
    }
  }

  absl::Status AddSubject(HeadStorage storage, const BackendFactory& backends,
                          const WeightsSource& weights) {
    Subject subject{.storage = storage};
    MEA_ASSIGN_OR_RETURN(subject.backend, backends());
    const ModelConfig config = WithStorage(config_, storage);
    subject.layout = MakeKvLayout(config, options_.kv_dtype, {.page_size = options_.page_size});
    ChooseBatches(subject);

    MEA_ASSIGN_OR_RETURN(ModelWeights made, weights(config, storage, *subject.backend));
    subject.matrix_dtype = subject.backend->weight_dtype().value_or(made.layers[0].q_proj.dtype);
    subject.output_dtype = subject.backend->weight_dtype().value_or(made.lm_head.dtype);
    MEA_ASSIGN_OR_RETURN(subject.model, Model::Create(config, std::move(made),
                                                      subject.backend.get(), LimitsFor(subject)));
    MEA_RETURN_IF_ERROR(CreateCache(subject));
    subject.stepper = std::make_unique<Stepper>(subject.model.get(), subject.kv.get());
    subjects_.push_back(std::move(subject));
    return absl::OkStatus();
  }

  const std::vector<StepPoint>& points() const override { return points_; }

  absl::StatusOr<std::vector<BenchRow>> Measure(const StepPoint& point) override {
    const auto found = std::find(points_.begin(), points_.end(), point);
    if (found == points_.end()) {
      return absl::NotFoundError(absl::StrCat("no point of batch ", point.batch, ", context ",
                                              point.context, ", ", point.tokens, " tokens"));
    }
    std::vector<Contender> contenders;
    for (Subject& subject : subjects_) {
      contenders.push_back(MakeContender(subject, found - points_.begin()));
    }
    MEA_RETURN_IF_ERROR(MeasureSideBySide(contenders, options_, *meter_));
    std::vector<BenchRow> rows;
    for (Contender& contender : contenders) rows.push_back(std::move(contender.row));
    return rows;
  }

 private:
  int PagesOf(const Subject& subject, size_t point) const {
    return static_cast<int>(subject.batches[point] *
                            subject.layout.PagesFor(points_[point].context));
  }

  // A contender's share of the memory for caches, in pages.
  int64_t MostPages(const KvLayout& layout) const {
    if (options_.max_cache_bytes == 0) return std::numeric_limits<int32_t>::max();
    const int64_t share = options_.max_cache_bytes / std::ssize(options_.storages);
    return share / layout.PageBytes();
  }

  void ChooseBatches(Subject& subject) const {
    const KvLayout& layout = subject.layout;
    const int64_t equal_pages = options_.equal_memory_bytes / layout.PageBytes();
    for (const StepPoint& point : points_) {
      subject.batches.push_back(
          point.batch > 0 ? point.batch
                          : static_cast<int>(equal_pages / layout.PagesFor(point.context)));
    }
    subject.skipped.resize(points_.size());
    for (size_t i = 0; i < points_.size(); ++i) {
      if (subject.batches[i] == 0 || PagesOf(subject, i) > MostPages(layout)) Skip(i, subject);
    }
  }

  void Skip(size_t point, Subject& subject) const {
    subject.skipped[point] = subject.batches[point] == 0 ? "not one sequence fits" : "does not fit";
  }

  // Room for every point that is left.
  ModelLimits LimitsFor(const Subject& subject) const {
    ModelLimits limits{.max_batch_tokens = 1,
                       .max_num_seqs = 1,
                       .max_logit_rows = 1,
                       .page_size = options_.page_size,
                       .kv_dtype = options_.kv_dtype};
    for (size_t i = 0; i < points_.size(); ++i) {
      if (!subject.skipped[i].empty()) continue;
      int rows = subject.batches[i] * points_[i].tokens;
      int seqs = subject.batches[i];
      if (points_[i].tokens == 1) rows = seqs = subject.backend->PaddedRows(rows);
      limits.max_batch_tokens = std::max(limits.max_batch_tokens, rows);
      limits.max_num_seqs = std::max(limits.max_num_seqs, seqs);
      limits.max_logit_rows = std::max(limits.max_logit_rows, seqs);
    }
    return limits;
  }

  // As large as the largest point that fits; points that do not are skipped.
  absl::Status CreateCache(Subject& subject) const {
    while (true) {
      size_t largest = points_.size();
      for (size_t i = 0; i < points_.size(); ++i) {
        if (!subject.skipped[i].empty()) continue;
        if (largest == points_.size() || PagesOf(subject, i) > PagesOf(subject, largest)) {
          largest = i;
        }
      }
      if (largest == points_.size()) {
        return absl::ResourceExhaustedError(
            absl::StrCat("no cache of ", StorageName(subject.storage, config_),
                         " heads fits, not even of the smallest batch and context asked for"));
      }
      auto kv = KvCache::Create(*subject.backend, subject.layout, PagesOf(subject, largest));
      if (kv.ok()) {
        subject.kv = *std::move(kv);
        return FillCache(*subject.backend, *subject.kv);
      }
      if (!absl::IsResourceExhausted(kv.status())) return kv.status();
      Skip(largest, subject);
    }
  }

  Contender MakeContender(Subject& subject, size_t index) const {
    const StepPoint& point = points_[index];
    const int batch = subject.batches[index];
    Contender contender{
        .row = {
            .bench = BenchName(point.tokens == 1 ? "decode" : "prefill", point.tokens, options_),
            .shape = options_.shape,
            .system = "mea",
            .storage = StorageName(subject.storage, config_),
            .memory = point.batch == 0 ? "equal" : "",
            .batch = batch,
            .context = point.context,
            .tokens = point.tokens,
            .cache_bytes = PagesOf(subject, index) * subject.kv->layout().PageBytes(),
            .skipped = subject.skipped[index]}};
    if (!contender.row.skipped.empty()) return contender;
    // With the identity an uncompressed cache costs no more than plain attention.
    const ModelConfig costed = subject.storage == HeadStorage::kOneHot
                                   ? WithStorage(config_, HeadStorage::kPlain)
                                   : subject.model->config();
    contender.row.cost = StepCost(
        costed,
        {.weights = subject.matrix_dtype,
         .output = subject.output_dtype,
         .kv = options_.kv_dtype,
         .compute = subject.backend->compute_dtype()},
        std::vector<SequenceLengths>(batch, {.q_len = point.tokens, .kv_len = point.context}),
        batch);
    contender.weights = subject.matrix_dtype;
    if (subject.backend->device() != Device::kCpu) contender.runs_at_once = kStepsAtOnce;
    contender.run = [&subject, &point, batch, count = contender.runs_at_once,
                     is_set = false]() mutable -> absl::Status {
      if (!std::exchange(is_set, true)) {
        MEA_RETURN_IF_ERROR(subject.stepper->Set(std::vector<StepSequence>(
            batch, {.length = point.context, .num_tokens = point.tokens})));
      }
      return subject.stepper->Run(count);
    };
    return contender;
  }

  ModelConfig config_;
  const EngineBenchOptions options_;
  const std::vector<StepPoint> points_;
  const std::unique_ptr<RooflineMeter> meter_;
  std::vector<Subject> subjects_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<EngineBench>> EngineBench::Create(const ModelConfig& config,
                                                                 const EngineBenchOptions& options,
                                                                 const BackendFactory& backends,
                                                                 const WeightsSource& weights) {
  MEA_ASSIGN_OR_RETURN(std::unique_ptr<RooflineMeter> meter, MakeMeter(options, backends));
  auto bench = std::make_unique<LoadedBench>(config, options, std::move(meter));
  for (const HeadStorage storage : options.storages) {
    MEA_RETURN_IF_ERROR(bench->AddSubject(storage, backends, weights));
  }
  return bench;
}

absl::StatusOr<std::vector<BenchRow>> BenchEngine(const ModelConfig& config,
                                                  const EngineBenchOptions& options,
                                                  const BackendFactory& backends,
                                                  const WeightsSource& weights,
                                                  const RowObserver& observer) {
  MEA_ASSIGN_OR_RETURN(const auto bench, EngineBench::Create(config, options, backends, weights));
  std::vector<BenchRow> rows;
  for (const StepPoint& point : bench->points()) {
    MEA_ASSIGN_OR_RETURN(std::vector<BenchRow> measured, bench->Measure(point));
    for (BenchRow& row : measured) {
      if (observer) observer(row);
      rows.push_back(std::move(row));
    }
  }
  return rows;
}

}  // namespace mea
