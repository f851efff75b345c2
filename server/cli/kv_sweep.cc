#include "server/cli/kv_sweep.h"

#include <cstdio>

#include "kernels/status_macros.h"
#include "server/cli/in_range.h"
#include "server/cli/model_dir.h"
#include "server/cli/progress.h"

namespace mea {
namespace {

constexpr char kCompact[] = "compact";  // --kv-sweep without formats

}  // namespace

void AddKvSweep(CLI::App& command, KvSweepFlags& flags) {
  CLI::Option* const sweep =
      command
          .add_option("--kv-sweep", flags.formats,
                      "What the text's predictions lose with each of these formats of the KV "
                      "cache, beside bf16; without FORMATS: with those of fewer bytes")
          ->type_name("[=FORMATS]")
          ->expected(0, 1)
          ->default_str(kCompact)
          ->excludes("--task")
          ->excludes("--kv-dtype")
          ->excludes("--weight-dtype");
  command
      .add_option("--reference", flags.reference,
                  "For --kv-sweep: the plain model that a converted one is compared with")
      ->transform(CheckpointDir())
      ->type_name("DIR")
      ->needs(sweep);
  command
      .add_option("--sweep-tokens", flags.tokens,
                  "Tokens of the text that --kv-sweep compares predictions on, at most")
      ->check(InRange(1, 1 << 30))
      ->needs(sweep)
      ->capture_default_str();
}

absl::Status SweepKv(const KvSweepFlags& flags, bool json, KvSweepOptions options) {
  MEA_RETURN_IF_ERROR(CheckModelDir(options.model.string()));
  if (!flags.reference.empty()) {
    MEA_RETURN_IF_ERROR(CheckModelDir(flags.reference));
  }
  options.reference = flags.reference;
  options.tokens = flags.tokens;
  if (flags.formats == kCompact) {
    options.formats = CompactKvFormats();
  } else {
    MEA_ASSIGN_OR_RETURN(options.formats, ParseKvFormats(flags.formats));
  }
  ProgressLine line;
  options.progress = [&line](std::string_view stage, int64_t done, int64_t total) {
    line.ShowStage(stage, done, total);
    return absl::OkStatus();
  };
  const absl::StatusOr<KvSweep> sweep = SweepKvFormats(options);
  line.Clear();
  MEA_RETURN_IF_ERROR(sweep.status());
  const std::string shown = json ? KvSweepJson(*sweep, options) : KvSweepTable(*sweep);
  std::fwrite(shown.data(), 1, shown.size(), stdout);
  return absl::OkStatus();
}

}  // namespace mea
