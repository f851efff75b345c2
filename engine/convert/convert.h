#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/paged_kv.h"

namespace mea::convert {

enum class Method : uint8_t {
  kSvd,         // MEA paper, appendix F: singular vectors of the weights; needs no text
  kActivation,  // the same in the metric of the projections' input
  kAligned,     // and with every free change of basis; README.md, "What is free"
  kRebase,      // for an MEA checkpoint: the same heads from components that are heads
};
absl::StatusOr<Method> ParseMethod(std::string_view name);
std::string_view MethodName(Method method);

// "4", or "6,6,5,4": one for all layers, or one per layer.
absl::StatusOr<std::vector<int>> ParseInts(std::string_view flag, std::string_view text);

// The progress of a conversion. `stage` is a word or two: "calibrating", "measuring", "composing",
// "writing". A status other than OK ends the run, which can be resumed.
struct Progress {
  std::string_view stage;
  int64_t done = 0;
  int64_t total = 0;
};
using OnProgress = std::function<absl::Status(const Progress&)>;

struct ConvertOptions {
  std::filesystem::path in;   // a plain checkpoint; kRebase: an MEA checkpoint
  std::filesystem::path out;  // must not exist
  Method method = Method::kAligned;
  // Component heads: one number for all layers, or one per layer. If both are empty, `ratio`
  // decides.
  std::vector<int> key_heads;
  std::vector<int> value_heads;
  // Share of the KV bytes to keep, spent where it costs least, as measured on the calibration text.
  double ratio = 0.5;
  std::vector<int> layers;  // the only ones to compose; empty: all
  std::string calibration;  // a text file; not needed for kRebase, nor for kSvd with given heads
  int64_t calibration_tokens = 32768;  // to learn from, at most
  int64_t measure_tokens = 2048;       // to measure each choice on, at most
  int64_t held_out_tokens = 8192;      // to judge the result by, at most; nothing learns from them
  // The most that the loss on the held-out text may rise, in nats per token, for OUT to be
  // published. Two hundredths are 2 % of perplexity: 15 to 40 times what an 8-bit cache of all
  // heads costs, and more than the sampling error of so many tokens.
  double accept_loss = 0.02;
  bool heal = true;     // refit the weights on the text, if there is one
  int num_threads = 0;  // 0 = UsableCpus()
  // The statistics of some layers (at least one) take at most this many bytes; the text is read
  // again for the next layers.
  int64_t statistics_bytes = int64_t{2} << 30;
  bool compose_full_layers = false;  // also if h' = h, which gains nothing
  OnProgress progress;
};

// How a mix was brought into pivot form (README.md).
struct MixForm {
  double largest_entry = 0;  // of |W'|
  double condition = 0;      // of the change of basis, in the 1-norm; infinite: dependent heads
};

struct LayerResult {
  int key_heads = 0;
  int value_heads = 0;
  double key_error = 0;  // share of the energy that is lost (compose.h); 0 if not composed
  double value_error = 0;
  int64_t bytes_per_token = 0;
  std::optional<MixForm> key_mix;  // as written; absent if not composed
  std::optional<MixForm> value_mix;
};

// What happens, in nats per token, when only this layer is composed of so many heads.
struct ProfileEntry {
  int layer = 0;
  bool of_keys = false;
  int heads = 0;
  double loss_increase = 0;
  double kl = 0;  // KL divergence from the plain model's predictions, nats per token
};

// The result, or another way to store the plain model's cache, on the held-out text.
struct CacheChoice {
  std::string name;  // "converted", "int8 cache of all heads", ...
  int64_t bytes_per_token = 0;
  double loss_increase = 0;  // nats per token
  double kl = 0;             // KL divergence from the plain model's predictions, nats per token
  double top1 = 0;           // share of tokens whose likeliest successor stays
};

struct Judgement {
  int64_t num_tokens = 0;
  bool is_apart = true;  // nothing was learned from this text, or chosen on it
  double plain_loss = 0;
  std::vector<CacheChoice> choices;  // the converted model first
};

struct Healing {
  int layers = 0;               // refitted
  int layers_with_experts = 0;  // of these: experts are left alone
  double distance = 0;  // mean over the text's tokens of |s - t|^2 / |t|^2 after the last layer
};

struct ConvertReport {
  std::string method;
  int kv_heads = 0;
  std::vector<LayerResult> layers;
  int64_t bytes_per_token_before = 0;  // BF16 cache
  int64_t bytes_per_token_after = 0;
  std::optional<Healing> healing;
  std::optional<Judgement> judgement;  // where a text was given
  bool published = false;              // OUT is there
  std::vector<ProfileEntry> profile;
};

// Converts a plain checkpoint into an MEA checkpoint, its mixes in pivot form (README.md). All work
// happens in OUT.partial: solutions and measurements there survive a killed run, and a later run
// with the same inputs and options continues from them and writes the same bytes. OUT appears
// complete or not at all. A model that loses more than options.accept_loss is not published: the
// report says so, and everything stays in OUT.partial, so that a run that accepts it is quick.
//
// INVALID_ARGUMENT names field, value and bound; ALREADY_EXISTS for OUT; FAILED_PRECONDITION if
// OUT.partial belongs to another conversion or another process; RESOURCE_EXHAUSTED for a full disk.
absl::StatusOr<ConvertReport> Convert(const ConvertOptions& options);

// The profile alone (MEA paper, figure 8, keys and values apart), for every layer and every number
// of heads; writes no checkpoint. Measurements are kept at options.out meanwhile.
absl::StatusOr<ConvertReport> ProfileLayers(const ConvertOptions& options);

// FAILED_PRECONDITION for a report of what was not published: the figures, and what else to do.
absl::Status Verdict(const ConvertReport& report, const ConvertOptions& options);

std::string ReportTable(const ConvertReport& report);
std::string ReportJson(const ConvertReport& report);

}  // namespace mea::convert
