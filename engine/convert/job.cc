#include "engine/convert/job.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "absl/strings/str_cat.h"
#include "engine/convert/fingerprint.h"
#include "engine/convert/pivot.h"
#include "engine/model/model_weights.h"
#include "kernels/status_macros.h"

namespace mea::convert {
namespace {

absl::Status CheckPlain(const ModelConfig& config, const std::string& file) {
  if (config.model_type == "mea") {
    return absl::InvalidArgumentError(absl::StrCat(
        file, ": model_type: expected a plain checkpoint, found \"mea\", whose heads are composed",
        config.composition == "mea" ? "; method rebase changes their basis alone" : ""));
  }
  if (config.kv_heads < 2) {
    return absl::InvalidArgumentError(absl::StrCat(file,
                                                   ": num_key_value_heads: expected 2 or more, "
                                                   "found 1, and one head cannot become fewer"));
  }
  return absl::OkStatus();
}

absl::Status CheckMixed(const ModelConfig& config, const std::string& file) {
  if (config.composition != "mea") {
    return absl::InvalidArgumentError(absl::StrCat(
        file,
        ": head_composition.kind: expected \"mea\", which method rebase changes the mixes of, ",
        "found \"", config.composition, "\""));
  }
  const auto is_mixed = [](const LayerHeads& heads) { return heads.key_mix || heads.value_mix; };
  if (std::none_of(config.layer_heads.begin(), config.layer_heads.end(), is_mixed)) {
    return absl::InvalidArgumentError(
        absl::StrCat(file, ": no layer has a mix of heads for method rebase to change"));
  }
  return absl::OkStatus();
}

absl::StatusOr<Checkpoint> OpenInput(const ConvertOptions& options) {
  MEA_ASSIGN_OR_RETURN(Checkpoint in, OpenCheckpoint(options.in));
  const std::string file = (options.in / "config.json").string();
  if (in.config.packed) {
    return absl::InvalidArgumentError(absl::StrCat(
        file,
        ": quantization_config: expected no such field, since mea convert changes floats, found ",
        std::string(PackedMethodName(in.config.packed->method))));
  }
  MEA_RETURN_IF_ERROR(options.method == Method::kRebase ? CheckMixed(in.config, file)
                                                        : CheckPlain(in.config, file));
  // Refuses missing and misshapen tensors before anything is computed.
  MEA_RETURN_IF_ERROR(PlannedWeightBytes(in).status());
  return in;
}

absl::Status OutOfBounds(const std::string& what, double value, const std::string& bound) {
  return absl::InvalidArgumentError(absl::StrCat(what, " ", value, " is not in ", bound));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Job>> Job::Open(const ConvertOptions& options, bool profile_only) {
  MEA_ASSIGN_OR_RETURN(Checkpoint in, OpenInput(options));
  std::unique_ptr<Job> job(new Job(options, std::move(in)));
  MEA_RETURN_IF_ERROR(job->CheckOptions(profile_only));
  MEA_ASSIGN_OR_RETURN(const std::string manifest, job->Manifest(profile_only));
  MEA_RETURN_IF_ERROR(job->ReadText());
  MEA_ASSIGN_OR_RETURN(job->work_, WorkDir::Open(options.out, manifest));
  return job;
}

absl::Status Job::CheckHeads(const char* field, const std::vector<int>& heads) const {
  if (heads.size() > 1 && std::ssize(heads) != config().num_layers) {
    return absl::InvalidArgumentError(absl::StrCat(field, ": ", heads.size(),
                                                   " numbers for a model of ", config().num_layers,
                                                   " layers; give one, or one per layer"));
  }
  for (const int n : heads) {
    if (n < 1 || n > config().kv_heads) {
      return OutOfBounds(field, n, absl::StrCat("1..", config().kv_heads));
    }
  }
  return absl::OkStatus();
}

absl::Status Job::CheckOptions(bool profile_only) const {
  MEA_RETURN_IF_ERROR(CheckHeads("key heads", options_.key_heads));
  MEA_RETURN_IF_ERROR(CheckHeads("value heads", options_.value_heads));
  const auto composes = [this](int heads) { return heads < config().kv_heads; };
  const std::vector<int>& keys = options_.key_heads;
  if (config().layers.qk_row_norm && !rebases() &&
      (keys.empty() || std::any_of(keys.begin(), keys.end(), composes))) {
    return absl::InvalidArgumentError(
        absl::StrCat("key heads: expected ", config().kv_heads,
                     ", given, with the number of value heads, since ", config().base_model_type,
                     " normalises the keys of all heads together"));
  }
  if (!(options_.ratio > 0 && options_.ratio <= 1)) {
    return OutOfBounds("ratio", options_.ratio, "(0, 1]");
  }
  std::set<int> seen;
  for (const int layer : options_.layers) {
    if (layer < 0 || layer >= config().num_layers) {
      return OutOfBounds("layer", layer, absl::StrCat("0..", config().num_layers - 1));
    }
    if (!seen.insert(layer).second) {
      return absl::InvalidArgumentError(absl::StrCat("layer ", layer, " is named twice"));
    }
  }
  if (options_.calibration_tokens < 1) {
    return OutOfBounds("calibration tokens", static_cast<double>(options_.calibration_tokens),
                       "1..");
  }
  if (options_.measure_tokens < 1) {
    return OutOfBounds("measure tokens", static_cast<double>(options_.measure_tokens), "1..");
  }
  if (rebases()) return CheckRebase(profile_only);
  if (has_text()) return absl::OkStatus();
  if (profile_only) return absl::InvalidArgumentError("a profile needs a text to measure on");
  if (options_.method != Method::kSvd) {
    return absl::InvalidArgumentError(
        absl::StrCat("method ", std::string(MethodName(options_.method)),
                     " needs a calibration text; only svd looks at the weights alone"));
  }
  if (options_.key_heads.empty() && options_.value_heads.empty()) {
    return absl::InvalidArgumentError(
        "a ratio needs a calibration text, to measure where heads can be spared; or give the "
        "numbers of heads");
  }
  return absl::OkStatus();
}

absl::Status Job::CheckRebase(bool profile_only) const {
  if (profile_only) return absl::InvalidArgumentError("a profile is of a plain checkpoint");
  if (!options_.key_heads.empty() || !options_.value_heads.empty()) {
    return absl::InvalidArgumentError("method rebase keeps the heads there are: give none");
  }
  if (!options_.layers.empty()) {
    return absl::InvalidArgumentError("method rebase is of all layers: give none");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> Job::Manifest(bool profile_only) const {
  nlohmann::ordered_json manifest = {{"version", 1},
                                     {"profile_only", profile_only},
                                     {"method", std::string(MethodName(options_.method))},
                                     {"key_heads", options_.key_heads},
                                     {"value_heads", options_.value_heads},
                                     {"ratio", options_.ratio},
                                     {"layers", options_.layers},
                                     {"calibration_tokens", options_.calibration_tokens},
                                     {"measure_tokens", options_.measure_tokens},
                                     {"compose_full_layers", options_.compose_full_layers}};
  MEA_ASSIGN_OR_RETURN(manifest["input"], CheckpointFingerprint(in_));
  manifest["calibration"] = "";
  if (has_text()) {
    MEA_ASSIGN_OR_RETURN(manifest["calibration"], FileFingerprint(options_.calibration));
  }
  return manifest.dump();
}

absl::Status Job::ReadText() {
  if (!has_text()) return absl::OkStatus();
  MEA_ASSIGN_OR_RETURN(text_,
                       ReadCalibrationText(options_.calibration, in_, options_.calibration_tokens,
                                           options_.measure_tokens));
  return absl::OkStatus();
}

absl::Status Job::MeasureProfile() {
  std::vector<SolveTask> tasks;
  for (int layer = 0; layer < config().num_layers; ++layer) {
    if (!heads_.IsChosen(layer)) continue;
    for (const bool of_keys : {true, false}) tasks.push_back({layer, of_keys, heads_.Candidates()});
  }
  MEA_RETURN_IF_ERROR(SolveTasks(tasks));
  MEA_ASSIGN_OR_RETURN(const double base, BaseLoss());
  const int64_t total = std::ssize(tasks) * std::ssize(heads_.Candidates());
  for (const SolveTask& task : tasks) {
    for (const int heads : task.heads) {
      MEA_ASSIGN_OR_RETURN(const double loss, LossWith(task.layer, task.of_keys, heads));
      profile_.push_back({task.layer, task.of_keys, heads, loss - base});
      MEA_RETURN_IF_ERROR(Tell("measuring", std::ssize(profile_), total));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<double> Job::LossWith(int layer, bool of_keys, int heads) {
  const std::string name = absl::StrCat(ResultName(layer, of_keys, heads), ".loss");
  if (const auto known = work_->Measured(name)) return *known;
  MEA_ASSIGN_OR_RETURN(Reader* const reader, TheReader());
  MEA_ASSIGN_OR_RETURN(const AttentionWeights w, ReadAttentionWeights(in_, layer));
  const int d = config().head_dim;
  if (of_keys) {
    const std::optional<KeyComposition> keys = work_->LoadKeys(layer, heads);
    if (!keys) return absl::DataLossError(absl::StrCat(name, ": not composed"));
    reader->ReplaceKeys(layer, ExpandKeys(w.k, d, *keys), ExpandKeys(w.k_bias, d, *keys));
  } else {
    const std::optional<ValueComposition> values = work_->LoadValues(layer, heads);
    if (!values) return absl::DataLossError(absl::StrCat(name, ": not composed"));
    reader->ReplaceValues(layer, ExpandValues(w.v, d, *values), ExpandValues(w.v_bias, d, *values));
  }
  const absl::StatusOr<double> loss = reader->Loss(text_.measure);
  reader->Restore(layer);
  MEA_RETURN_IF_ERROR(loss.status());
  MEA_RETURN_IF_ERROR(work_->SaveMeasured(name, *loss));
  return *loss;
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
  return reader->Collect(text_.learn, layers, [this](int64_t done, int64_t total) {
    return Tell("calibrating", done, total);
  });
}

absl::StatusOr<Reader*> Job::TheReader() {
  if (!reader_) {
    MEA_ASSIGN_OR_RETURN(reader_,
                         Reader::Create(in_, options_.num_threads, /*replaceable=*/!rebases()));
  }
  return reader_.get();
}

absl::StatusOr<double> Job::BaseLoss() {
  if (const auto known = work_->Measured("loss")) return *known;
  MEA_ASSIGN_OR_RETURN(Reader* const reader, TheReader());
  MEA_ASSIGN_OR_RETURN(const double loss, reader->Loss(text_.measure));
  MEA_RETURN_IF_ERROR(work_->SaveMeasured("loss", loss));
  return loss;
}

absl::StatusOr<AttentionWeights> Job::ComposedLayer(const LayerPlan& plan, int layer) const {
  MEA_ASSIGN_OR_RETURN(const AttentionWeights weights, ReadAttentionWeights(in_, layer));
  if (rebases()) return weights;
  const LayerHeads& heads = plan[layer];
  std::optional<KeyComposition> keys;
  std::optional<ValueComposition> values;
  if (heads.key_mix) keys = work_->LoadKeys(layer, heads.key_heads);
  if (heads.value_mix) values = work_->LoadValues(layer, heads.value_heads);
  if (heads.key_mix != keys.has_value() || heads.value_mix != values.has_value()) {
    return absl::DataLossError(absl::StrCat("layer ", layer, ": what was composed cannot be read"));
  }
  return Compose(weights, config().head_dim, keys ? &*keys : nullptr, values ? &*values : nullptr);
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
  const auto layer = [&](int i) -> absl::StatusOr<AttentionWeights> {
    MEA_ASSIGN_OR_RETURN(AttentionWeights weights, ComposedLayer(plan, i));
    const LayerForm form = BringIntoPivotForm(config().head_dim, weights);
    report.layers[i].key_mix = form.keys;
    report.layers[i].value_mix = form.values;
    return weights;
  };
  const auto written = [this](int64_t done, int64_t total) { return Tell("writing", done, total); };
  MEA_RETURN_IF_ERROR(WriteCheckpoint(in_, plan, layer, dir, written));

  // What was written must load, and predict the text.
  MEA_ASSIGN_OR_RETURN(const Checkpoint out, OpenCheckpoint(dir));
  MEA_RETURN_IF_ERROR(PlannedWeightBytes(out).status());
  if (has_text()) {
    MEA_ASSIGN_OR_RETURN(const double before, BaseLoss());
    MEA_ASSIGN_OR_RETURN(const auto reader,
                         Reader::Create(out, options_.num_threads, /*replaceable=*/false));
    MEA_ASSIGN_OR_RETURN(const double after,
                         reader->Loss(text_.measure, [this](int64_t done, int64_t total) {
                           return Tell("checking", done, total);
                         }));
    report.loss_before = before;
    report.loss_after = after;
  }
  return Tell("publishing", 0, 1);
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
  MEA_RETURN_IF_ERROR(Write(plan, report));
  MEA_RETURN_IF_ERROR(work_->Publish());
  return report;
}

absl::StatusOr<ConvertReport> Job::Profile() {
  MEA_RETURN_IF_ERROR(MeasureProfile());
  const int h = config().kv_heads;
  ConvertReport report = MakeReport(LayerPlan(config().num_layers, LayerHeads{h, h}));
  MEA_ASSIGN_OR_RETURN(report.loss_before, BaseLoss());
  work_->Remove();
  return report;
}

absl::Status Job::Tell(std::string_view stage, int64_t done, int64_t total) const {
  return options_.progress ? options_.progress({stage, done, total}) : absl::OkStatus();
}

}  // namespace mea::convert
