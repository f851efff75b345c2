#include "engine/convert/solver.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <optional>
#include <thread>

#include "absl/strings/str_cat.h"
#include "engine/convert/layer_weights.h"

namespace mea::convert {
namespace {

// Values creep on long after the loss has stopped to feel it, and each of their sweeps costs a
// hundred of the keys'.
constexpr AlignOptions kValueOptions{.max_sweeps = 80};

class SolveRun {
 public:
  SolveRun(const Checkpoint& checkpoint, Method method,
           const std::vector<HeadStatistics>* statistics, WorkDir& work, const OnProgress& progress,
           const std::vector<SolveTask>& tasks)
      : checkpoint_(checkpoint),
        method_(method),
        statistics_(statistics),
        work_(work),
        progress_(progress),
        tasks_(tasks) {
    for (const SolveTask& task : tasks) total_ += std::ssize(task.heads);
  }

  absl::Status Run(int num_threads) {
    std::atomic<size_t> next = 0;
    const auto work = [&] {
      for (size_t i = next++; i < tasks_.size() && ok(); i = next++) Keep(RunTask(tasks_[i]));
    };
    std::vector<std::thread> threads;
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
    const absl::StatusOr<AttentionWeights> weights = ReadAttentionWeights(checkpoint_, task.layer);
    if (!weights.ok()) return weights.status();
    const HeadStatistics* text = statistics_ == nullptr ? nullptr : &(*statistics_)[task.layer];
    // The paper's method looks at weights alone; what it loses is told in the text's metric if
    // there is one.
    const HeadStatistics* metric = method_ == Method::kSvd ? nullptr : text;
    const bool aligned = method_ == Method::kAligned;
    const bool judged_apart = metric != text;
    if (task.of_keys) {
      const KeyProblem problem = MakeKeyProblem(checkpoint_.config, *weights, metric);
      std::optional<KeyProblem> in_text;
      if (judged_apart) in_text = MakeKeyProblem(checkpoint_.config, *weights, text);
      const KeyProblem& judged = in_text ? *in_text : problem;
      return ForHeads(task, [&](int heads) {
        const KeyComposition keys =
            aligned ? AlignKeys(problem, heads) : ComposeKeysBySvd(problem, heads);
        return Finish(task, keys, KeyError(judged, keys));
      });
    }
    const ValueProblem problem = MakeValueProblem(checkpoint_.config, *weights, metric);
    std::optional<ValueProblem> in_text;
    if (judged_apart) in_text = MakeValueProblem(checkpoint_.config, *weights, text);
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
      if (absl::Status status = body(heads); !status.ok()) return status;
    }
    return absl::OkStatus();
  }

  template <typename Composition>
  absl::Status Finish(const SolveTask& task, const Composition& composition, double error) {
    const std::string name = ResultName(task.layer, task.of_keys, composition.components());
    const std::lock_guard lock(mutex_);
    if (absl::Status s = work_.SaveMeasured(absl::StrCat(name, ".error"), error); !s.ok()) return s;
    if (absl::Status s = work_.Save(task.layer, composition); !s.ok()) return s;
    ++done_;
    return progress_ ? progress_({"composing", done_, total_}) : absl::OkStatus();
  }

  const Checkpoint& checkpoint_;
  const Method method_;
  const std::vector<HeadStatistics>* const statistics_;
  WorkDir& work_;
  const OnProgress& progress_;
  const std::vector<SolveTask>& tasks_;
  int64_t total_ = 0;
  std::mutex mutex_;  // of what follows, of work_ and of progress_
  int64_t done_ = 0;
  absl::Status status_;
};

}  // namespace

std::string ResultName(int layer, bool of_keys, int heads) {
  return absl::StrCat("layer-", layer, of_keys ? ".keys-" : ".values-", heads);
}

absl::Status Solve(const Checkpoint& checkpoint, Method method, std::vector<SolveTask> tasks,
                   const StatisticsSource& statistics, int num_threads, WorkDir& work,
                   const OnProgress& progress) {
  for (SolveTask& task : tasks) {
    std::erase_if(task.heads, [&](int heads) {
      return task.of_keys ? work.LoadKeys(task.layer, heads).has_value()
                          : work.LoadValues(task.layer, heads).has_value();
    });
  }
  std::erase_if(tasks, [](const SolveTask& task) { return task.heads.empty(); });
  if (tasks.empty()) return absl::OkStatus();
  const std::vector<HeadStatistics>* known = nullptr;
  if (statistics) {
    const auto collected = statistics();
    if (!collected.ok()) return collected.status();
    known = *collected;
  }
  const int threads =
      num_threads > 0 ? num_threads : static_cast<int>(std::thread::hardware_concurrency());
  return SolveRun(checkpoint, method, known, work, progress, tasks).Run(std::max(1, threads));
}

}  // namespace mea::convert
