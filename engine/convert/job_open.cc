#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "absl/strings/str_cat.h"
#include "engine/convert/fingerprint.h"
#include "engine/convert/job.h"
#include "engine/model/model_weights.h"
#include "kernels/human_bytes.h"
#include "kernels/machine.h"
#include "kernels/status_macros.h"

// What a run is given, and what is wrong with it.
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
  MEA_RETURN_IF_ERROR(job->CheckHealing());
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
  if (options_.held_out_tokens < 1) {
    return OutOfBounds("held-out tokens", static_cast<double>(options_.held_out_tokens), "1..");
  }
  if (!(options_.accept_loss >= 0)) {
    return OutOfBounds("accepted loss", options_.accept_loss, "0..");
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
                                     {"held_out_tokens", options_.held_out_tokens},
                                     {"heal", options_.heal},
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
  MEA_ASSIGN_OR_RETURN(text_, ReadCalibrationText(options_.calibration, in_,
                                                  {.learn = options_.calibration_tokens,
                                                   .measure = options_.measure_tokens,
                                                   .held_out = options_.held_out_tokens}));
  return absl::OkStatus();
}

// Before anything is computed.
absl::Status Job::CheckHealing() const {
  if (!heals()) return absl::OkStatus();
  const int64_t tokens = std::min(options_.calibration_tokens, NumTokens(text_.learn));
  const int64_t need = Healer::Bytes(config(), tokens);
  const MachineLimits machine = ReadMachineLimits();
  if (need <= machine.available_bytes) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat(
      "healing keeps ", HumanBytes(need), " of hidden states and sums of ", tokens,
      " calibration tokens, more than the ", HumanBytes(machine.available_bytes), " available (",
      machine.memory_source, "); use fewer --calibration-tokens, or --heal off"));
}

}  // namespace mea::convert
