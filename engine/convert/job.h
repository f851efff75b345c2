#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/convert/calibration.h"
#include "engine/convert/convert.h"
#include "engine/convert/head_plan.h"
#include "engine/convert/healing.h"
#include "engine/convert/output.h"
#include "engine/convert/profile.h"
#include "engine/convert/solver.h"
#include "engine/convert/work_dir.h"
#include "engine/eval/reader.h"

namespace mea::convert {

// One run of Convert or ProfileLayers, from the input to the report. One thread.
class Job {
 public:
  // Reads the input, checks every option against it, and finds what an earlier run left.
  static absl::StatusOr<std::unique_ptr<Job>> Open(const ConvertOptions& options,
                                                   bool profile_only);

  absl::StatusOr<ConvertReport> Convert();
  absl::StatusOr<ConvertReport> Profile();

 private:
  Job(const ConvertOptions& options, Checkpoint in)
      : options_(options), in_(std::move(in)), heads_(in_.config, options_) {}

  const ModelConfig& config() const { return in_.config; }
  int num_threads() const;
  bool heals() const;
  bool rebases() const { return options_.method == Method::kRebase; }
  bool has_text() const { return !options_.calibration.empty(); }

  absl::Status CheckHeads(const char* field, const std::vector<int>& heads) const;
  absl::Status CheckOptions(bool profile_only) const;
  absl::Status CheckRebase(bool profile_only) const;
  absl::StatusOr<std::string> Manifest(bool profile_only) const;
  absl::Status ReadText();

  absl::Status MeasureProfile();
  absl::StatusOr<ProfileEntry> Measure(int layer, bool of_keys, int heads,
                                       std::unique_ptr<Profiler>& profiler);
  absl::Status SolvePlan(const LayerPlan& plan);
  absl::Status SolveTasks(std::vector<SolveTask> tasks);
  absl::StatusOr<LayerStatistics> Statistics(std::span<const int> layers);
  absl::StatusOr<Reader*> TheReader();
  struct Compositions {
    std::optional<KeyComposition> keys;
    std::optional<ValueComposition> values;
    LayerComposition view() const {
      return {.keys = keys ? &*keys : nullptr, .values = values ? &*values : nullptr};
    }
  };
  absl::StatusOr<Compositions> LoadCompositions(const LayerPlan& plan, int layer) const;
  absl::StatusOr<LayerMatrices> ComposedLayer(const LayerPlan& plan, int layer) const;
  absl::StatusOr<std::unique_ptr<Profiler>> TheProfiler() const;
  absl::StatusOr<LayerPlan> MakePlan();
  absl::Status CheckHealing() const;
  absl::StatusOr<std::optional<Healing>> Heal(const LayerPlan& plan);
  absl::Status Write(const LayerPlan& plan, ConvertReport& report);
  ConvertReport MakeReport(const LayerPlan& plan) const;
  absl::Status Tell(std::string_view stage, int64_t done, int64_t total) const;

  const ConvertOptions options_;
  const Checkpoint in_;
  const HeadPlan heads_;
  std::unique_ptr<WorkDir> work_;
  CalibrationText text_;
  std::unique_ptr<Reader> reader_;
  std::vector<ProfileEntry> profile_;
};

}  // namespace mea::convert
