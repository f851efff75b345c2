#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/model/model.h"
#include "kernels/late_memory.h"
#include "kvcache/kv_cache.h"

namespace mea {

// The steps of starting an engine, for callers that want one without its thread (eval, tests).

// The dtypes in flags, as messages and --help list them.
inline constexpr char kWeightDTypes[] = "auto, f32, bf16, int8, int4";
// Of keys and values, each may have its own.
inline constexpr char kKvDTypes[] = "bf16, f32, int8, int4, or a pair as k=int8,v=int4";

// "auto" keeps the checkpoint's dtypes (returns nothing); "f32" and "bf16" convert every matrix,
// "int8" and "int4" quantise them.
absl::StatusOr<std::optional<DType>> ParseWeightDType(const std::string& name);

// The same for a back end that computes only with `needed`, if that is present: INVALID_ARGUMENT
// for any other.
absl::StatusOr<std::optional<DType>> WeightDTypeFor(const std::string& name,
                                                    std::optional<DType> needed);

// Sets the model's context; 0 leaves it. INVALID_ARGUMENT, naming `flag`, beyond LongestContext.
absl::Status SetContext(const std::string& flag, int tokens, ModelConfig& config);

// weight_dtype as ParseWeightDType reads it; INVALID_ARGUMENT for one that the back end cannot
// compute with. Of `options`, dtype and prefault are set here.
absl::StatusOr<std::unique_ptr<Model>> LoadModel(const Checkpoint& checkpoint,
                                                 const std::string& weight_dtype, Backend* backend,
                                                 ModelLimits limits,
                                                 const LoadProgress& progress = {},
                                                 LoadOptions options = {});

// The same over several devices (Model::Create).
absl::StatusOr<std::unique_ptr<Model>> LoadModel(const Checkpoint& checkpoint,
                                                 const std::string& weight_dtype,
                                                 std::span<const StagePlace> places,
                                                 ModelLimits limits,
                                                 const LoadProgress& progress = {},
                                                 LoadOptions options = {});

// The same model with random weights; no tensor of a checkpoint is needed.
absl::StatusOr<std::unique_ptr<Model>> MakeRandomModel(
    const ModelConfig& config, const std::string& weight_dtype, int num_threads,
    std::span<const StagePlace> places, ModelLimits limits, const LoadProgress& progress = {});

// One of kKvDTypes; on CUDA not of f32.
absl::StatusOr<KvDTypes> ParseKvDType(const std::string& name, Device device = Device::kCpu);
// INVALID_ARGUMENT where the device cannot serve the model from such a cache.
absl::Status CheckKvDType(const ModelConfig& config, KvDTypes dtype, Device device);

// `limits` with the device's default for each of page_size, max_batch_tokens and max_num_seqs that
// is 0, and a row of logits for each sequence. INVALID_ARGUMENT, naming the flag, if no engine on
// the device can have them.
absl::StatusOr<ModelLimits> ResolveLimits(ModelLimits limits, Device device);

// Pages of a cache of at most `bytes` bytes.
int64_t NumPages(int64_t page_bytes, int page_size, int64_t bytes);
// Such a cache, in the back ends' memory or in `late`, if given; INVALID_ARGUMENT when that is less
// than one page. A back end for each rank of the layout.
absl::StatusOr<std::unique_ptr<KvCache>> CreateKvCache(std::vector<Backend*> backends,
                                                       const KvLayout& layout, int64_t bytes,
                                                       LateMemory* late = nullptr);
absl::StatusOr<std::unique_ptr<KvCache>> CreateKvCache(Backend& backend, const KvLayout& layout,
                                                       int64_t bytes);

}  // namespace mea
