#include "engine/load.h"

#include <algorithm>
#include <limits>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/device.h"
#include "engine/model/key_biases.h"
#include "engine/model/model_weights.h"
#include "kernels/human_bytes.h"
#include "kernels/status_macros.h"

namespace mea {

absl::StatusOr<std::optional<DType>> ParseWeightDType(const std::string& name) {
  if (name == "auto") return std::nullopt;
  if (name == "f32") return DType::kF32;
  if (name == "bf16") return DType::kBf16;
  if (name == "int8") return DType::kI8;
  if (name == "int4") return DType::kI4;
  return absl::InvalidArgumentError(
      absl::StrCat("--weight-dtype \"", name, "\" is none of ", kWeightDTypes));
}

absl::StatusOr<std::optional<DType>> WeightDTypeFor(const std::string& name,
                                                    std::optional<DType> needed) {
  const absl::StatusOr<std::optional<DType>> asked = ParseWeightDType(name);
  if (!asked.ok() || !needed.has_value()) return asked;
  if (asked->has_value() && **asked != *needed) {
    return absl::InvalidArgumentError(absl::StrCat("--weight-dtype ", name,
                                                   ": the device computes with ",
                                                   std::string(DTypeName(*needed)), " weights"));
  }
  return needed;
}

absl::Status SetContext(const std::string& flag, int tokens, ModelConfig& config) {
  if (tokens > LongestContext(config)) {
    return absl::InvalidArgumentError(absl::StrCat(
        flag, " ", tokens, " exceeds the model's context of ", LongestContext(config)));
  }
  if (tokens > 0) config.max_position = tokens;
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Model>> LoadModel(const Checkpoint& checkpoint,
                                                 const std::string& weight_dtype, Backend* backend,
                                                 ModelLimits limits, const LoadProgress& progress,
                                                 LoadOptions options) {
  return LoadModel(checkpoint, weight_dtype, OnOneDevice(backend, checkpoint.config), limits,
                   progress, std::move(options));
}

absl::StatusOr<std::unique_ptr<Model>> LoadModel(const Checkpoint& checkpoint,
                                                 const std::string& weight_dtype,
                                                 std::span<const StagePlace> places,
                                                 ModelLimits limits, const LoadProgress& progress,
                                                 LoadOptions options) {
  const Backend* const backend = places.front().backend;
  MEA_ASSIGN_OR_RETURN(options.weight_dtype, WeightDTypeFor(weight_dtype, backend->weight_dtype()));
  // For a device the copy reads the pages, and it takes most of the time.
  const bool on_host = backend->device() == Device::kCpu;
  options.prefault = on_host;
  MEA_ASSIGN_OR_RETURN(ModelWeights weights,
                       LoadWeights(checkpoint, options, on_host ? progress : LoadProgress{}));
  return Model::Create(checkpoint.config, std::move(weights), places, limits, progress);
}

absl::StatusOr<std::unique_ptr<Model>> MakeRandomModel(
    const ModelConfig& config, const std::string& weight_dtype, int num_threads,
    std::span<const StagePlace> places, ModelLimits limits, const LoadProgress& progress) {
  constexpr uint64_t kSeed = 1;
  const Backend* const backend = places.front().backend;
  MEA_ASSIGN_OR_RETURN(const auto dtype, WeightDTypeFor(weight_dtype, backend->weight_dtype()));
  MEA_ASSIGN_OR_RETURN(
      ModelWeights weights,
      backend->device() == Device::kCpu
          ? MakeRandomWeights(config, dtype.value_or(DType::kBf16), kSeed, num_threads, progress)
          : MakeRandomWeightsOn(places, config, kSeed, progress));
  return Model::Create(config, std::move(weights), places, limits);
}

namespace {

std::optional<DType> CacheDType(std::string_view name) {
  for (const DType dtype : {DType::kBf16, DType::kF32, DType::kI8, DType::kI4}) {
    if (name == DTypeName(dtype)) return dtype;
  }
  return std::nullopt;
}

// "int8", or "k=int8,v=int4" in either order.
std::optional<KvDTypes> CacheDTypes(std::string_view name) {
  if (const std::optional<DType> both = CacheDType(name)) return *both;
  const size_t comma = name.find(',');
  if (comma == std::string_view::npos) return std::nullopt;
  std::string_view keys = name.substr(0, comma);
  std::string_view values = name.substr(comma + 1);
  if (keys.starts_with("v=")) std::swap(keys, values);
  if (!keys.starts_with("k=") || !values.starts_with("v=")) return std::nullopt;
  const std::optional<DType> k = CacheDType(keys.substr(2));
  const std::optional<DType> v = CacheDType(values.substr(2));
  if (!k || !v) return std::nullopt;
  return KvDTypes(*k, *v);
}

}  // namespace

absl::StatusOr<KvDTypes> ParseKvDType(const std::string& name, Device device) {
  const std::optional<KvDTypes> dtypes = CacheDTypes(name);
  if (!dtypes) {
    return absl::InvalidArgumentError(
        absl::StrCat("--kv-dtype \"", name, "\" is none of ", kKvDTypes));
  }
  if (device == Device::kCuda && (dtypes->keys == DType::kF32 || dtypes->values == DType::kF32)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--kv-dtype ", name, ": on cuda the cache is bf16, int8 or int4"));
  }
  return *dtypes;
}

absl::Status CheckKvDType(const ModelConfig& config, KvDTypes dtype, Device device) {
  if (device == Device::kCpu || !IsIntegerCache(dtype.keys) || !KeyBiases::AreApart(config)) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "--kv-dtype ", KvDTypesName(dtype), ": on cuda keys of a model that adds biases to them are ",
      "bf16: ", KvDTypesName({DType::kBf16, dtype.values})));
}

absl::StatusOr<ModelLimits> ResolveLimits(ModelLimits limits, Device device) {
  const DeviceDefaults& defaults = DefaultsOf(device);
  const auto fill = [](int& limit, int value) {
    if (limit == 0) limit = value;
  };
  fill(limits.page_size, defaults.page_size);
  fill(limits.max_batch_tokens, defaults.max_batch_tokens);
  fill(limits.max_num_seqs, std::min(defaults.max_num_seqs, limits.max_batch_tokens));
  limits.max_logit_rows = limits.max_num_seqs;
  if (limits.max_num_seqs > limits.max_batch_tokens) {
    return absl::InvalidArgumentError(absl::StrCat("--max-num-seqs ", limits.max_num_seqs,
                                                   " exceeds --max-batch-tokens ",
                                                   limits.max_batch_tokens));
  }
  MEA_RETURN_IF_ERROR(CheckPageSize(limits.page_size, device));
  return limits;
}

int64_t NumPages(int64_t page_bytes, int page_size, int64_t bytes) {
  // Slots are counted in 32 bits.
  const int64_t max_pages = std::numeric_limits<int32_t>::max() / page_size;
  return std::min(bytes / page_bytes, max_pages);
}

absl::StatusOr<std::unique_ptr<KvCache>> CreateKvCache(Backend& backend, const KvLayout& layout,
                                                       int64_t bytes) {
  return CreateKvCache(std::vector<Backend*>{&backend}, layout, bytes);
}

absl::StatusOr<std::unique_ptr<KvCache>> CreateKvCache(std::vector<Backend*> backends,
                                                       const KvLayout& layout, int64_t bytes,
                                                       LateMemory* late) {
  const int64_t num_pages = NumPages(layout.PageBytes(), layout.page_size, bytes);
  if (num_pages == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("--kv-cache-bytes ", HumanBytes(bytes), " holds no page; one page of ",
                     layout.page_size, " tokens takes ", HumanBytes(layout.PageBytes())));
  }
  absl::StatusOr<std::unique_ptr<KvCache>> cache =
      KvCache::Create(std::move(backends), layout, static_cast<int>(num_pages),
                      [&](Backend& backend, std::span<const int64_t> shape, DType dtype) {
                        return late ? late->Allocate(shape, dtype) : backend.Allocate(shape, dtype);
                      });
  if (cache.ok()) return cache;
  return absl::Status(cache.status().code(),
                      absl::StrCat(cache.status().message(), "; see --kv-cache-bytes"));
}

}  // namespace mea
