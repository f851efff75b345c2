#include "engine/convert/job.h"

#include <algorithm>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "engine/convert/judge.h"
#include "engine/convert/pivot.h"
#include "engine/convert/statistics.h"
#include "engine/model/model_weights.h"
#include "kernels/machine.h"
#include "kernels/status_macros.h"

namespace mea::convert {
namespace {

// Enough to refit one projection well enough for choices to be compared.
constexpr int64_t kProfileHealTokens = 8192;

}  // namespace

absl::Status Job::MeasureProfile() {
  std::vector<SolveTask> tasks;
  for (int layer = 0; layer < config().num_layers; ++layer) {
    if (!heads_.IsChosen(layer)) continue;
    for (const bool of_keys : {true, false}) tasks.push_back({layer, of_keys, heads_.Candidates()});
  }
  MEA_RETURN_IF_ERROR(SolveTasks(tasks));
  std::unique_ptr<Profiler> profiler;
  const int64_t total = std::ssize(tasks) * std::ssize(heads_.Candidates());
  for (const SolveTask& task : tasks) {
    for (const int heads : task.heads) {
      MEA_ASSIGN_OR_RETURN(const ProfileEntry entry,
                           Measure(task.layer, task.of_keys, heads, profiler));
      profile_.push_back(entry);
      MEA_RETURN_IF_ERROR(Tell("measuring", std::ssize(profile_), total));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Profiler>> Job::TheProfiler() const {
  ProfileTexts texts{.measure = text_.measure};
  if (heals()) texts.heal = FirstTokens(text_.learn, kProfileHealTokens);
  return Profiler::Create(in_, texts, num_threads(), options_.statistics_bytes);
}

// Unless an earlier run has. The profiler, which only goes forward, is made where it is needed.
absl::StatusOr<ProfileEntry> Job::Measure(int layer, bool of_keys, int heads,
                                          std::unique_ptr<Profiler>& profiler) {
  const std::string name = ResultName(layer, of_keys, heads);
  const std::optional<double> loss = work_->Measured(name + ".loss");
  const std::optional<double> kl = work_->Measured(name + ".kl");
  if (loss && kl) return ProfileEntry{layer, of_keys, heads, *loss, *kl};
  if (!profiler) {
    MEA_ASSIGN_OR_RETURN(profiler, TheProfiler());
  }
  while (profiler->layer() < layer) {
    MEA_RETURN_IF_ERROR(profiler->PassLayer());
  }
  LayerPlan plan(config().num_layers, heads_.Of(config().kv_heads, config().kv_heads));
  plan[layer] = of_keys ? heads_.Of(heads, config().kv_heads) : heads_.Of(config().kv_heads, heads);
  MEA_ASSIGN_OR_RETURN(const Compositions composed, LoadCompositions(plan, layer));
  MEA_ASSIGN_OR_RETURN(const Divergence found, profiler->Measure(composed.view()));
  MEA_RETURN_IF_ERROR(work_->SaveMeasured(name + ".loss", found.loss));
  MEA_RETURN_IF_ERROR(work_->SaveMeasured(name + ".kl", found.kl));
  return ProfileEntry{layer, of_keys, heads, found.loss, found.kl};
}

absl::Status Job::SolvePlan(const LayerPlan& plan) {
  std::vector<SolveTask> tasks;
  for (int layer = 0; layer < config().num_layers; ++layer) {
    const LayerHeads& heads = plan[layer];
    if (heads.key_mix) tasks.push_back({layer, true, {heads.key_heads}});
    if (heads.value_mix) tasks.push_back({layer, false, {heads.value_heads}});
  }
  return SolveTasks(std::move(tasks));
}

absl::Status Job::SolveTasks(std::vector<SolveTask> tasks) {
  StatisticsSource statistics;
  if (has_text()) statistics = [this](std::span<const int> layers) { return Statistics(layers); };
  return Solve(in_, options_, std::move(tasks), statistics, *work_);
}

absl::StatusOr<LayerStatistics> Job::Statistics(std::span<const int> layers) {
  MEA_ASSIGN_OR_RETURN(Reader* const reader, TheReader());
  return CollectStatistics(*reader, in_, text_.learn, layers, [this](int64_t done, int64_t total) {
    return Tell("calibrating", done, total);
  });
}

absl::StatusOr<Reader*> Job::TheReader() {
  if (!reader_) {
    MEA_ASSIGN_OR_RETURN(reader_, Reader::Create(in_, {.num_threads = options_.num_threads}));
  }
  return reader_.get();
}

absl::StatusOr<LayerMatrices> Job::ComposedLayer(const LayerPlan& plan, int layer) const {
  MEA_ASSIGN_OR_RETURN(LayerMatrices weights, ReadLayerMatrices(in_, layer));
  if (rebases()) return weights;
  if (const auto healed = work_->LoadHealed(layer)) healed->ApplyTo(weights);
  MEA_ASSIGN_OR_RETURN(const Compositions composed, LoadCompositions(plan, layer));
  const LayerComposition view = composed.view();
  return Compose(weights, config().head_dim, view.keys, view.values);
}

absl::StatusOr<Job::Compositions> Job::LoadCompositions(const LayerPlan& plan, int layer) const {
  const LayerHeads& heads = plan[layer];
  Compositions composed;
  if (heads.key_mix) composed.keys = work_->LoadKeys(layer, heads.key_heads);
  if (heads.value_mix) composed.values = work_->LoadValues(layer, heads.value_heads);
  if (heads.key_mix != composed.keys.has_value() ||
      heads.value_mix != composed.values.has_value()) {
    return absl::DataLossError(absl::StrCat("layer ", layer, ": what was composed cannot be read"));
  }
  return composed;
}

ConvertReport Job::MakeReport(const LayerPlan& plan) const {
  ConvertReport report{.method = std::string(MethodName(options_.method)),
                       .kv_heads = config().kv_heads,
                       .profile = profile_};
  const LayerPlan whole(config().num_layers, heads_.Of(config().kv_heads, config().kv_heads));
  report.bytes_per_token_before = heads_.BytesPerToken(whole);
  report.bytes_per_token_after = heads_.BytesPerToken(plan);
  for (int layer = 0; layer < config().num_layers; ++layer) {
    const auto error = [&](bool of_keys, int heads) {
      return work_->Measured(ResultName(layer, of_keys, heads) + ".error").value_or(0);
    };
    const LayerHeads& heads = plan[layer];
    LayerPlan one = whole;
    one[layer] = heads;
    report.layers.push_back(
        {.key_heads = heads.key_heads,
         .value_heads = heads.value_heads,
         .key_error = heads.key_mix ? error(true, heads.key_heads) : 0,
         .value_error = heads.value_mix ? error(false, heads.value_heads) : 0,
         .bytes_per_token = heads_.BytesPerToken(one) - heads_.BytesPerToken(whole) +
                            report.bytes_per_token_before / config().num_layers});
  }
  return report;
}

absl::Status Job::Write(const LayerPlan& plan, ConvertReport& report) {
  MEA_ASSIGN_OR_RETURN(const std::filesystem::path dir, work_->NewCheckpointDir());
  const auto layer = [&](int i) -> absl::StatusOr<LayerMatrices> {
    MEA_ASSIGN_OR_RETURN(LayerMatrices weights, ComposedLayer(plan, i));
    const LayerForm form = BringIntoPivotForm(config().head_dim, weights);
    report.layers[i].key_mix = form.keys;
    report.layers[i].value_mix = form.values;
    return weights;
  };
  const auto written = [this](int64_t done, int64_t total) { return Tell("writing", done, total); };
  OutputPlan output{.heads = plan, .healed = std::vector<bool>(config().num_layers)};
  for (int i = 0; report.healing && i < config().num_layers; ++i) {
    const std::optional<HealedWeights> healed = work_->LoadHealed(i);
    output.healed[i] = healed && !healed->empty();
  }
  MEA_RETURN_IF_ERROR(WriteCheckpoint(in_, output, layer, dir, written));

  // What was written must load, and predict the text.
  MEA_ASSIGN_OR_RETURN(const Checkpoint out, OpenCheckpoint(dir));
  MEA_RETURN_IF_ERROR(PlannedWeightBytes(out).status());
  if (has_text()) {
    MEA_ASSIGN_OR_RETURN(report.judgement, Judge(in_, out, text_, num_threads(), *work_,
                                                 [this](int64_t done, int64_t total) {
                                                   return Tell("judging", done, total);
                                                 }));
  }
  return absl::OkStatus();
}

int Job::num_threads() const {
  return options_.num_threads > 0 ? options_.num_threads : UsableCpus();
}

bool Job::heals() const { return options_.heal && has_text() && !rebases(); }

absl::StatusOr<std::optional<Healing>> Job::Heal(const LayerPlan& plan) {
  const auto is_composed = [](const LayerHeads& heads) { return heads.key_mix || heads.value_mix; };
  if (!heals() || std::none_of(plan.begin(), plan.end(), is_composed)) return std::nullopt;
  Healing healing;
  std::unique_ptr<Healer> healer;
  const bool is_done = work_->Measured("distance").has_value();
  for (int layer = 0; layer < config().num_layers; ++layer) {
    std::optional<HealedWeights> healed = work_->LoadHealed(layer);
    if (!(is_done && healed)) {
      if (!healer) {
        MEA_ASSIGN_OR_RETURN(healer, Healer::Create(in_, text_.learn, num_threads()));
      }
      MEA_RETURN_IF_ERROR(Tell("healing", layer, config().num_layers));
      MEA_ASSIGN_OR_RETURN(const Compositions composed, LoadCompositions(plan, layer));
      const bool is_known = healed.has_value();
      MEA_ASSIGN_OR_RETURN(healed, healer->HealNext(composed.view(), healed));
      if (!is_known) MEA_RETURN_IF_ERROR(work_->Save(layer, *healed));
    }
    if (healed->empty()) continue;
    ++healing.layers;
    healing.layers_with_experts += config().is_sparse(layer) ? 1 : 0;
  }
  if (!is_done) MEA_RETURN_IF_ERROR(work_->SaveMeasured("distance", healer->Distance()));
  healing.distance = *work_->Measured("distance");
  return healing;
}

// The plan, with all its compositions solved.
absl::StatusOr<LayerPlan> Job::MakePlan() {
  if (rebases()) return config().layer_heads;
  const bool by_budget = options_.key_heads.empty() && options_.value_heads.empty();
  if (by_budget) {
    MEA_RETURN_IF_ERROR(MeasureProfile());
  }
  MEA_ASSIGN_OR_RETURN(LayerPlan plan, by_budget ? heads_.WithinBudget(profile_) : heads_.Given());
  MEA_RETURN_IF_ERROR(SolvePlan(plan));
  return plan;
}

absl::StatusOr<ConvertReport> Job::Convert() {
  MEA_ASSIGN_OR_RETURN(const LayerPlan plan, MakePlan());
  ConvertReport report = MakeReport(plan);
  MEA_ASSIGN_OR_RETURN(report.healing, Heal(plan));
  MEA_RETURN_IF_ERROR(Write(plan, report));
  report.published = Verdict(report, options_).ok();
  if (report.published) {
    MEA_RETURN_IF_ERROR(Tell("publishing", 0, 1));
    MEA_RETURN_IF_ERROR(work_->Publish());
  }
  return report;
}

absl::StatusOr<ConvertReport> Job::Profile() {
  MEA_RETURN_IF_ERROR(MeasureProfile());
  const int h = config().kv_heads;
  ConvertReport report = MakeReport(LayerPlan(config().num_layers, LayerHeads{h, h}));
  work_->Remove();
  return report;
}

absl::Status Job::Tell(std::string_view stage, int64_t done, int64_t total) const {
  return options_.progress ? options_.progress({stage, done, total}) : absl::OkStatus();
}

}  // namespace mea::convert
