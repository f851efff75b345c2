#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/eval/divergence.h"
#include "engine/eval/kv_formats.h"
#include "engine/eval/needles.h"

namespace mea {

struct KvSweepOptions {
  std::filesystem::path model;
  // Whose BF16 cache everything is compared with: the plain model of a converted one. Empty: the
  // model itself.
  std::filesystem::path reference;
  std::vector<KvFormat> formats;  // of the model, beside BF16
  std::string text;
  int64_t tokens = 8192;  // of the text to compare predictions on, at most
  int num_threads = 0;    // 0 = UsableCpus()
  // `stage` is one word; a status other than OK ends the sweep.
  std::function<absl::Status(std::string_view stage, int64_t done, int64_t total)> progress;
};

// How much of what the reference writes, greedily, another cache writes as well.
struct GreedyAgreement {
  int continuations = 0;
  int tokens = 0;           // of each
  double equal_prefix = 0;  // mean number of tokens before the first difference
  double equal = 0;         // share without any
};

struct KvSweepRow {
  bool is_reference = false;  // of the reference model, if that is another; else of the model
  std::string cache;          // "bf16" or a format's name
  int64_t bytes_per_token = 0;
  double share = 0;       // of the BF16 cache of all heads
  Divergence divergence;  // from the first row
  GreedyAgreement greedy;
  std::vector<NeedleScore> needles;  // by length of the haystacks, as far as the context allows
};

struct KvSweep {
  int64_t tokens = 0;            // predictions were compared on
  std::vector<KvSweepRow> rows;  // the first is what the others are compared with
};

// What each way to store a model's cache keeps of its predictions. INVALID_ARGUMENT if reference
// and model do not read the text as the same tokens, or the text is too short.
absl::StatusOr<KvSweep> SweepKvFormats(const KvSweepOptions& options);

std::string KvSweepTable(const KvSweep& sweep);
std::string KvSweepJson(const KvSweep& sweep, const KvSweepOptions& options);

}  // namespace mea
