#include <unistd.h>

#include <algorithm>
#include <optional>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/engine.h"
#include "engine/engine_loop.h"
#include "engine/load.h"

namespace mea {
namespace {

int64_t PhysicalMemoryBytes() {
  return int64_t{sysconf(_SC_PHYS_PAGES)} * int64_t{sysconf(_SC_PAGESIZE)};
}

template <typename T>
absl::Status CheckOption(absl::string_view name, T value, T low, T high) {
  if (value >= low && value <= high) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("--", name, " ", value, " is outside ", low, "..", high));
}

absl::Status CheckOptions(const EngineOptions& o) {
  constexpr int kMaxBatchTokens = 1 << 16;
  for (const absl::Status& status : {
           CheckOption("threads", o.num_threads, 0, 1024),
           CheckOption("page-size", o.page_size, 16, 1024),
           CheckOption("max-batch-tokens", o.max_batch_tokens, 1, kMaxBatchTokens),
           CheckOption("max-num-seqs", o.max_num_seqs, 1, o.max_batch_tokens),
           CheckOption("max-queued-requests", o.max_queued_requests, 1, 1 << 20),
           CheckOption("max-context", o.max_context, 0, 1 << 30),
           CheckOption("kv-cache-bytes", o.kv_cache_bytes, int64_t{0}, int64_t{1} << 50),
       }) {
    if (!status.ok()) return status;
  }
  if (o.page_size % 16 != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("--page-size ", o.page_size, " is not a multiple of 16"));
  }
  return absl::OkStatus();
}

// What "auto" kept: the embedding's, which nearly every checkpoint has in common with the rest.
std::string StoredWeightDType(const Checkpoint& checkpoint) {
  const StoredTensor* embedding = checkpoint.tensors.Find("model.embed_tokens.weight");
  const std::optional<DType> dtype =
      embedding == nullptr ? std::nullopt : LoadableDType(embedding->dtype);
  return dtype ? std::string(DTypeName(*dtype)) : "auto";
}

// Enough for every sequence to grow to the full context, within a quarter of the machine.
int64_t DefaultKvCacheBytes(const KvLayout& layout, int max_num_seqs, int max_context) {
  const int64_t wanted = int64_t{layout.PagesFor(max_context)} * max_num_seqs * layout.PageBytes();
  return std::min(wanted, PhysicalMemoryBytes() / 4);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Engine>> StartEngine(EngineOptions options, LoadProgress progress,
                                                    StepObserver observer) {
  if (absl::Status status = CheckOptions(options); !status.ok()) return status;
  absl::StatusOr<Checkpoint> checkpoint = OpenCheckpoint(options.model_dir);
  if (!checkpoint.ok()) return checkpoint.status();
  if (options.max_context == 0) options.max_context = checkpoint->config.max_position;
  if (options.max_context > checkpoint->config.max_position) {
    return absl::InvalidArgumentError(absl::StrCat("--max-context ", options.max_context,
                                                   " exceeds the model's context of ",
                                                   checkpoint->config.max_position));
  }
  checkpoint->config.max_position = options.max_context;

  if (options.num_threads == 0) {
    options.num_threads = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  }

  EngineParts parts;
  absl::StatusOr<std::unique_ptr<Backend>> backend =
      CreateCpuBackend({.num_threads = options.num_threads});
  if (!backend.ok()) return backend.status();
  parts.backend = *std::move(backend);

  const ModelLimits limits{.max_batch_tokens = options.max_batch_tokens,
                           .max_num_seqs = options.max_num_seqs,
                           .max_logit_rows = options.max_num_seqs,
                           .page_size = options.page_size};
  absl::StatusOr<std::unique_ptr<Model>> model =
      LoadModel(*checkpoint, options.weight_dtype, parts.backend.get(), limits, progress);
  if (!model.ok()) return model.status();
  parts.model = *std::move(model);

  absl::StatusOr<DType> kv_dtype = ParseKvDType(options.kv_dtype);
  if (!kv_dtype.ok()) return kv_dtype.status();
  const KvLayout layout = parts.model->MakeKvLayout(*kv_dtype, options.page_size);
  if (options.kv_cache_bytes == 0) {
    options.kv_cache_bytes = DefaultKvCacheBytes(layout, options.max_num_seqs, options.max_context);
  }
  absl::StatusOr<std::unique_ptr<KvCache>> kv =
      CreateKvCache(*parts.backend, layout, options.kv_cache_bytes);
  if (!kv.ok()) return kv.status();
  parts.kv = *std::move(kv);

  if (options.weight_dtype == "auto") options.weight_dtype = StoredWeightDType(*checkpoint);
  parts.generation = checkpoint->generation;
  parts.options = std::move(options);
  return std::make_unique<EngineLoop>(std::move(parts), std::move(observer));
}

}  // namespace mea
