#include "engine/convert/convert.h"

#include <cstdio>
#include <limits>
#include <memory>
#include <string>

#include "engine/storage/output_file.h"
#include "kernels/status_macros.h"
#include "server/cli/command.h"
#include "server/cli/engine_flags.h"
#include "server/cli/in_range.h"
#include "server/cli/model_dir.h"
#include "server/cli/progress.h"

namespace mea {
namespace {

constexpr char kConvertExamples[] = R"(
Examples:
  mea convert llama llama-mea --calibration text.txt            half of the KV bytes, where it hurts least
  mea convert llama llama-mea --calibration text.txt --ratio 0.25
  mea convert llama llama-mea --calibration text.txt --key-heads 6 --value-heads 2
  mea convert llama llama-mea --calibration text.txt --accept-loss 0.1     publish it unless it loses more
  mea convert llama llama-svd --method svd --kv-heads 4         weights alone, as the MEA paper does
  mea convert trained-mea OUT --method rebase                   components become heads: the same model, faster
  mea convert llama --profile-layers text.txt --report profile.json   which layers can spare heads

Every mix is written in pivot form: as many heads as there are components are components themselves. --method rebase
brings an MEA checkpoint of any origin into it, without loss but for one rounding of k_proj and v_proj to their dtype.
What is finished is kept in OUT.partial: a run that was stopped goes on from there, and so does one with
--accept-loss after a model was refused for what it loses on text that nothing was learned from.
)";

// What --accept-loss means without a number.
constexpr char kAnyLoss[] = "any";

std::string CheckLoss(const std::string& text) {
  return text == kAnyLoss ? "" : InRange(0.0, 1000.0)(text);
}

struct ConvertFlags {
  convert::ConvertOptions options;
  std::string in, out;
  std::string method = "aligned";
  std::string kv_heads, key_heads, value_heads;
  std::string layers = "auto";
  std::string profile_text;
  std::string report;
  std::string accept_loss;
  std::string heal = "on";
};

absl::Status ReadHeads(const ConvertFlags& flags, convert::ConvertOptions& options) {
  if (!flags.kv_heads.empty() && !(flags.key_heads.empty() && flags.value_heads.empty())) {
    return absl::InvalidArgumentError("--kv-heads goes without --key-heads and --value-heads");
  }
  const auto read = [](const char* flag, const std::string& text, std::vector<int>& into) {
    absl::StatusOr<std::vector<int>> numbers = convert::ParseInts(flag, text);
    if (numbers.ok()) into = *std::move(numbers);
    return numbers.status();
  };
  const std::string& keys = flags.kv_heads.empty() ? flags.key_heads : flags.kv_heads;
  const std::string& values = flags.kv_heads.empty() ? flags.value_heads : flags.kv_heads;
  const char* key_flag = flags.kv_heads.empty() ? "--key-heads" : "--kv-heads";
  const char* value_flag = flags.kv_heads.empty() ? "--value-heads" : "--kv-heads";
  MEA_RETURN_IF_ERROR(read(key_flag, keys, options.key_heads));
  MEA_RETURN_IF_ERROR(read(value_flag, values, options.value_heads));
  if (flags.layers == "auto") return absl::OkStatus();
  return read("--layers", flags.layers, options.layers);
}

absl::Status RunConvert(const ConvertFlags& flags) {
  convert::ConvertOptions options = flags.options;
  const bool profile = !flags.profile_text.empty();
  if (profile != flags.out.empty()) {
    return absl::InvalidArgumentError(profile
                                          ? "--profile-layers writes no checkpoint: leave out OUT"
                                          : "OUT is missing: where to write the checkpoint");
  }
  MEA_RETURN_IF_ERROR(CheckModelDir(flags.in));
  options.in = flags.in;
  // A profile keeps its measurements in the working directory, in a directory named after the
  // input.
  options.out =
      profile ? options.in.lexically_normal().filename().string() + ".profile" : flags.out;
  if (profile) options.calibration = flags.profile_text;
  MEA_ASSIGN_OR_RETURN(options.method, convert::ParseMethod(flags.method));
  MEA_RETURN_IF_ERROR(ReadHeads(flags, options));
  options.heal = flags.heal == "on";
  if (flags.accept_loss == kAnyLoss) {
    options.accept_loss = std::numeric_limits<double>::infinity();
  } else if (!flags.accept_loss.empty()) {
    CLI::detail::lexical_cast(flags.accept_loss, options.accept_loss);
  }

  ProgressLine line;
  options.progress = [&line](const convert::Progress& p) {
    line.ShowStage(p.stage, p.done, p.total);
    return absl::OkStatus();
  };
  const absl::StatusOr<convert::ConvertReport> report =
      profile ? convert::ProfileLayers(options) : convert::Convert(options);
  line.Clear();
  MEA_RETURN_IF_ERROR(report.status());
  const std::string json = convert::ReportJson(*report);
  const std::string shown = profile ? json : convert::ReportTable(*report);
  if (!flags.report.empty()) {
    MEA_RETURN_IF_ERROR(ReplaceFile(flags.report, json));
  }
  if (!profile || flags.report.empty()) std::fwrite(shown.data(), 1, shown.size(), stdout);
  return profile ? absl::OkStatus() : convert::Verdict(*report, options);
}

}  // namespace

void AddConvert(CLI::App& program, Action& action) {
  CLI::App& command = *program.add_subcommand(
      "convert", "Turn a plain checkpoint into one whose KV cache holds fewer heads");
  command.footer(kConvertExamples);
  auto flags = std::make_shared<ConvertFlags>();
  convert::ConvertOptions& options = flags->options;
  command.add_option("in", flags->in, "Plain checkpoint; for --method rebase one with mixes")
      ->required()
      ->type_name("IN");
  command.add_option("out", flags->out, "Checkpoint to write; must not exist yet")
      ->type_name("OUT");
  command
      .add_option("--method", flags->method,
                  "How heads are composed: aligned, activation, svd; or rebase")
      ->capture_default_str();
  command
      .add_option("--calibration", options.calibration,
                  "File of text like what the model will read")
      ->type_name("FILE");
  command
      .add_option("--ratio", options.ratio,
                  "Share of the KV bytes to keep, where no heads are given")
      ->check(InRange(0.0, 1.0))
      ->capture_default_str();
  command
      .add_option("--kv-heads", flags->kv_heads,
                  "Component heads of keys and of values: N for all layers, or N,N,... for each")
      ->type_name("N[,N...]");
  command.add_option("--key-heads", flags->key_heads, "The same for keys alone")
      ->type_name("N[,N...]");
  command.add_option("--value-heads", flags->value_heads, "The same for values alone")
      ->type_name("N[,N...]");
  command.add_option("--layers", flags->layers, "The only layers to compose: auto (any) or 4,5,6")
      ->capture_default_str();
  command
      .add_option("--calibration-tokens", options.calibration_tokens,
                  "Tokens to learn from, at most")
      ->check(InRange(1, 1 << 30))
      ->capture_default_str();
  command
      .add_option("--measure-tokens", options.measure_tokens,
                  "Tokens to measure each choice on, at most")
      ->check(InRange(1, 1 << 30))
      ->capture_default_str();
  command
      .add_option(
          "--heal", flags->heal,
          "Refit the weights on the text, in closed form, after heads are composed: on, off")
      ->check(CLI::IsMember({"on", "off"}))
      ->capture_default_str();
  command
      .add_option("--held-out-tokens", options.held_out_tokens,
                  "Tokens to judge the converted model by, at most; nothing is learned from them")
      ->check(InRange(1, 1 << 30))
      ->capture_default_str();
  command
      .add_option("--accept-loss", flags->accept_loss,
                  "Publish OUT if its loss on held-out text rises by at most NATS per token; 0.02 "
                  "without this flag, whatever it is with no NATS")
      ->type_name("[NATS]")
      ->expected(0, 1)
      ->default_str(kAnyLoss)
      ->check(CheckLoss);
  command
      .add_option("--profile-layers", flags->profile_text,
                  "Measure on this text what each layer can spare, and print JSON; writes no OUT")
      ->type_name("FILE");
  command.add_option("--report", flags->report, "Also write the report as JSON")->type_name("FILE");
  AddThreads(command, options.num_threads);
  command.callback([flags, &action] { action = [flags] { return RunConvert(*flags); }; });
}

}  // namespace mea
