#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/config/config.h"
#include "engine/storage/safetensors.h"
#include "engine/weights/tensor_spec.h"
#include "engine/weights/weights.h"
#include "kernels/backend.h"
#include "kernels/cost.h"

namespace mea {

// One layer's attention in one step, between its projections and o_proj: the arguments of the ops,
// set for plain attention.
struct AttentionStep {
  Backend& backend;
  std::span<const TensorView> buffers;  // the variant's, of this step's tokens
  std::span<const Tensor> constants;    // the variant's
  PrepareQueriesArgs queries;
  AppendKvArgs append;
  PagedAttentionArgs read;
};

// One row for each token of a step.
struct RowBuffer {
  int64_t columns = 0;
  bool is_wide = false;  // in the back end's wide dtype, not its compute dtype
};

struct StepDTypes {
  DType weights = DType::kBf16;
  std::optional<DType> output = std::nullopt;  // of the output matrix, where it has another
  KvDTypes kv;
  DType compute = DType::kF32;
};

// One layer's attention of a step whose cost is asked for.
struct AttentionLoad {
  const ModelConfig& config;
  int layer = 0;
  StepDTypes dtypes;
  std::span<const SequenceLengths> sequences;
  int64_t num_tokens = 0;  // of all sequences
};

// A family of attention: how it departs from plain attention over the cached heads, and all that it
// needs for it. What is not overridden departs in nothing, so that this class itself is plain
// attention: grouped-query attention, or multi-head attention where h = H. Immutable: it knows its
// part of config.json, and is shared by all who have a copy of the configuration.
class AttentionVariant {
 public:
  virtual ~AttentionVariant() = default;

  // ---- what it needs

  // Completes what config.json leaves open by what the files hold.
  virtual void SettleLayers(const SafeTensors& /*tensors*/, ModelConfig& /*config*/) const {}
  // Lists its tensors of a layer behind those of plain attention, and changes those if need be.
  virtual void ListTensors(const ModelConfig& /*config*/, int /*layer*/,
                           const std::string& /*prefix*/, LayerWeights& /*weights*/,
                           TensorList& /*list*/) const {}
  virtual std::vector<RowBuffer> Buffers(const ModelConfig& /*config*/) const { return {}; }
  // Whether values have rows of their own, not columns behind queries and keys.
  virtual bool has_dense_values() const { return false; }
  // Tensors that depend on the configuration alone, where the back end reads them.
  virtual absl::StatusOr<std::vector<Tensor>> MakeConstants(const ModelConfig& /*config*/,
                                                            TensorView /*inv_freq*/,
                                                            Backend& /*backend*/) const {
    return std::vector<Tensor>();
  }
  virtual int64_t PlannedConstantBytes(const ModelConfig& /*config*/, DType /*wide*/) const {
    return 0;
  }
  // Matrix products beside those of plain attention.
  virtual std::vector<ProductShape> Products(const ModelConfig& /*config*/) const { return {}; }
  virtual AttentionKind KindOf(const ModelConfig& config, int layer) const;
  // Whether a cache of integers may keep keys without their bias.
  virtual bool can_add_key_bias(const ModelConfig& /*config*/, int /*layer*/) const { return true; }
  // Of everything between the projections and o_proj but appending to the cache.
  virtual OpCost Cost(const AttentionLoad& load) const;

  // ---- what `mea inspect` tells

  // Labels and texts.
  virtual std::vector<std::pair<std::string, std::string>> Describe(const ModelConfig& /*config*/,
                                                                    KvDTypes /*kv_dtype*/) const {
    return {};
  }
  // Which heads of a layer are composed.
  virtual std::string DescribeLayer(const ModelConfig& config, int layer) const;

  // ---- what it does

  // Once in every step, before the layers; `rope` is what plain attention computes.
  virtual void BeginStep(Backend& /*backend*/, const ComputeRopeArgs& /*rope*/,
                         std::span<const TensorView> /*buffers*/) const {}
  // From projected q, k and v to the input of o_proj, step.read.out.
  virtual void Attend(const LayerWeights& layer, AttentionStep& step) const {
    BeforeCache(layer, step);
    step.backend.PrepareAndAppend({.queries = step.queries, .kv = step.append});
    AtRead(layer, step);
    step.backend.PagedAttention(step.read);
  }

 protected:
  // Changes new keys and values on their way into the cache.
  virtual void BeforeCache(const LayerWeights& /*layer*/, AttentionStep& /*step*/) const {}
  // Says how cached (component) heads become attended (virtual) heads, and what happens to their
  // outputs.
  virtual void AtRead(const LayerWeights& /*layer*/, AttentionStep& /*step*/) const {}
};

const AttentionVariant& AttentionOf(const ModelConfig& config);

// What attention of one layer looks like to kernels/cost.
AttentionShape AttentionShapeOf(const ModelConfig& config, int layer, KvDTypes kv_dtype);

}  // namespace mea
