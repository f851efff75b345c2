#include "engine/convert/solver.h"

#include <algorithm>
#include <atomic>
#include <iterator>
#include <map>
#include <mutex>
#include <optional>
#include <thread>

#include "absl/strings/str_cat.h"
#include "engine/convert/layer_weights.h"
#include "kernels/machine.h"
#include "kernels/status_macros.h"

namespace mea::convert {
namespace {

// Values still improve slowly when the loss no longer does, and one of their sweeps costs as much
// as a hundred for keys.
constexpr AlignOptions kValueOptions{.max_sweeps = 80};

class SolveRun {
 public:
  SolveRun(const Checkpoint& checkpoint, const ConvertOptions& options, WorkDir& work,
           int64_t total)
      : checkpoint_(checkpoint), options_(options), work_(work), total_(total) {}

  // `statistics` has the layers of all tasks; null: the weights alone count.
  absl::Status Run(std::span<const SolveTask> tasks, const LayerStatistics* statistics) {
    statistics_ = statistics;
    std::atomic<size_t> next = 0;
    const auto work = [&] {
      for (size_t i = next++; i < tasks.size() && ok(); i = next++) Keep(RunTask(tasks[i]));
    };
    std::vector<std::thread> threads;
    const int num_threads = options_.num_threads > 0 ? options_.num_threads : UsableCpus();
    for (int i = 1; i < num_threads; ++i) threads.emplace_back(work);
    work();
    for (std::thread& thread : threads) thread.join();
    return status_;
  }

 private:
  bool ok() {
    const std::lock_guard lock(mutex_);
    return status_.ok();
  }
  void Keep(absl::Status status) {
    const std::lock_guard lock(mutex_);
    status_.Update(status);
  }

  absl::Status RunTask(const SolveTask& task) {
    MEA_ASSIGN_OR_RETURN(const LayerMatrices weights, ReadLayerMatrices(checkpoint_, task.layer));
    const HeadStatistics* text = statistics_ == nullptr ? nullptr : &statistics_->at(task.layer);
    // The paper's method looks at weights alone; its error is reported in the metric of the text if
    // there is one.
    const HeadStatistics* metric = options_.method == Method::kSvd ? nullptr : text;
    const bool aligned = options_.method == Method::kAligned;
    const bool judged_apart = metric != text;
    if (task.of_keys) {
      const KeyProblem problem = MakeKeyProblem(checkpoint_.config, weights, metric);
      std::optional<KeyProblem> in_text;
      if (judged_apart) in_text = MakeKeyProblem(checkpoint_.config, weights, text);
      const KeyProblem& judged = in_text ? *in_text : problem;
      return ForHeads(task, [&](int heads) {
        const KeyComposition keys =
            aligned ? AlignKeys(problem, heads) : ComposeKeysBySvd(problem, heads);
        return Finish(task, keys, KeyError(judged, keys));
      });
    }
    const ValueProblem problem = MakeValueProblem(checkpoint_.config, weights, metric);
    std::optional<ValueProblem> in_text;
    if (judged_apart) in_text = MakeValueProblem(checkpoint_.config, weights, text);
    const ValueProblem& judged = in_text ? *in_text : problem;
    return ForHeads(task, [&](int heads) {
      const ValueComposition values =
          aligned ? AlignValues(problem, heads, kValueOptions) : ComposeValuesBySvd(problem, heads);
      return Finish(task, values, ValueError(judged, values));
    });
  }

  template <typename Body>
  absl::Status ForHeads(const SolveTask& task, const Body& body) {
    for (const int heads : task.heads) {
      if (!ok()) return absl::OkStatus();
      MEA_RETURN_IF_ERROR(body(heads));
    }
    return absl::OkStatus();
  }

  template <typename Composition>
  absl::Status Finish(const SolveTask& task, const Composition& composition, double error) {
    const std::string name = ResultName(task.layer, task.of_keys, composition.components());
    const std::lock_guard lock(mutex_);
    MEA_RETURN_IF_ERROR(work_.SaveMeasured(absl::StrCat(name, ".error"), error));
    MEA_RETURN_IF_ERROR(work_.Save(task.layer, composition));
    ++done_;
    return options_.progress ? options_.progress({"composing", done_, total_}) : absl::OkStatus();
  }

  const Checkpoint& checkpoint_;
  const ConvertOptions& options_;
  WorkDir& work_;
  const int64_t total_;
  const LayerStatistics* statistics_ = nullptr;
  std::mutex mutex_;  // guards the following members, work_ and options_.progress
  int64_t done_ = 0;
  absl::Status status_;
};

// Of the statistics: the second moments of its values, which keys' are a d-th of.
int64_t BytesOfLayer(const ModelConfig& config) {
  const int64_t size = int64_t{config.kv_heads} * config.head_dim;
  return size * size * static_cast<int64_t>(sizeof(double));
}

}  // namespace

std::string ResultName(int layer, bool of_keys, int heads) {
  return absl::StrCat("layer-", layer, of_keys ? ".keys-" : ".values-", heads);
}

absl::Status Solve(const Checkpoint& checkpoint, const ConvertOptions& options,
                   std::vector<SolveTask> tasks, const StatisticsSource& statistics,
                   WorkDir& work) {
  int64_t total = 0;
  for (SolveTask& task : tasks) {
    std::erase_if(task.heads, [&](int heads) {
      return task.of_keys ? work.LoadKeys(task.layer, heads).has_value()
                          : work.LoadValues(task.layer, heads).has_value();
    });
    total += std::ssize(task.heads);
  }
  std::erase_if(tasks, [](const SolveTask& task) { return task.heads.empty(); });
  SolveRun run(checkpoint, options, work, total);
  if (!statistics) return run.Run(tasks, nullptr);

  std::map<int, std::vector<SolveTask>> by_layer;
  for (SolveTask& task : tasks) by_layer[task.layer].push_back(std::move(task));
  const int64_t at_once =
      std::max<int64_t>(1, options.statistics_bytes / BytesOfLayer(checkpoint.config));
  while (!by_layer.empty()) {
    std::vector<int> layers;
    std::vector<SolveTask> some;
    while (!by_layer.empty() && std::ssize(layers) < at_once) {
      const auto first = by_layer.begin();
      layers.push_back(first->first);
      std::move(first->second.begin(), first->second.end(), std::back_inserter(some));
      by_layer.erase(first);
    }
    MEA_ASSIGN_OR_RETURN(const LayerStatistics collected, statistics(layers));
    MEA_RETURN_IF_ERROR(run.Run(some, &collected));
  }
  return absl::OkStatus();
}

}  // namespace mea::convert
