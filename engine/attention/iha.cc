#include "engine/attention/iha.h"

#include <array>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "engine/storage/field_reader.h"
#include "engine/storage/mismatch.h"
#include "engine/weights/place_tensors.h"
#include "kernels/status_macros.h"

namespace mea {
namespace {

constexpr IntRange kPseudoHeadRange{1, 16};
constexpr IntRange kIhaWindowRange{0, 1 << 30};

enum Buffer { kAngles, kQueries, kAttended };

// Features of the base model that pseudo heads do not support.
absl::Status CheckBase(const FieldReader& in, const ModelConfig& config) {
  const auto refuse = [&in](const char* field, const std::string& expected,
                            const std::string& found) -> absl::Status {
    return absl::InvalidArgumentError(Mismatch(in.file(), field, expected, found));
  };
  if (config.kv_heads != config.q_heads) {
    return refuse("num_key_value_heads",
                  absl::StrCat("num_attention_heads ", config.q_heads,
                               ", since pseudo heads mix queries, keys and values alike"),
                  absl::StrCat(config.kv_heads));
  }
  if (config.layers.qk_norm || config.layers.qk_row_norm || config.other_rope) {
    return refuse("base_model_type",
                  "a model without QK-norm, whose layers rotate alike, below interleaved heads",
                  ShownName(config.base_model_type));
  }
  for (const int window : config.layer_windows) {
    if (window == 0) continue;
    return refuse("sliding_window", "null beside head_composition.layer_windows",
                  absl::StrCat(window));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::shared_ptr<const AttentionVariant>> IhaAttention::Read(FieldReader& in,
                                                                           ModelConfig& config) {
  in.OnlyFields({"kind", "num_pseudo_heads", "layer_windows"});
  const int pseudo_heads = in.Int("num_pseudo_heads", kPseudoHeadRange);
  const std::vector<int> windows = in.IntOrList("layer_windows", kIhaWindowRange);
  if (in.status().ok() && (windows.empty() || std::ssize(windows) > config.num_layers)) {
    in.Refuse("layer_windows",
              absl::StrCat("1 to ", config.num_layers,
                           " windows in tokens, repeated over the layers, 0 for an ordinary one"),
              in.Has("layer_windows") ? absl::StrCat(windows.size(), " entries") : "no such field");
  }
  in.Fail(CheckBase(in, config));
  if (!in.status().ok()) return in.status();
  for (int layer = 0; layer < config.num_layers; ++layer) {
    config.layer_windows[layer] = windows[layer % windows.size()];
  }
  return std::make_shared<const IhaAttention>(pseudo_heads);
}

// The mixing tensors are stored as [m, j, p], the collapse as [i, j * P + p].
void IhaAttention::ListTensors(const ModelConfig& config, int layer, const std::string& prefix,
                               LayerWeights& weights, TensorList& list) const {
  if (!is_interleaved(config, layer)) return;
  weights.variant.resize(kNumWeights);
  const int64_t h = config.kv_heads;
  const std::array<int64_t, 3> dims = {h, h, pseudo_heads_};
  const std::vector<int64_t> stored = {h, h, pseudo_heads_};
  const std::vector<int64_t> mix = {h, h * pseudo_heads_};
  list.Add({.name = prefix + "iha_q",
            .view = &weights.variant[kQueryMix],
            .shape = mix,
            .role = TensorRole::kMix,
            .stored_shape = stored,
            .dims = dims,
            .order = {0, 2, 1}});
  list.Add({.name = prefix + "iha_k",
            .view = &weights.mix.key,
            .shape = mix,
            .role = TensorRole::kMix,
            .stored_shape = stored});
  list.Add({.name = prefix + "iha_v",
            .view = &weights.mix.value,
            .shape = mix,
            .role = TensorRole::kMix,
            .stored_shape = stored});
  list.Add({.name = prefix + "iha_collapse.weight",
            .view = &weights.variant[kCollapse],
            .shape = {mix[1], h},
            .role = TensorRole::kMix,
            .stored_shape = mix,
            .dims = dims,
            .order = {2, 1, 0}});
}

std::vector<RowBuffer> IhaAttention::Buffers(const ModelConfig& config) const {
  const int64_t angles = int64_t{pseudo_heads_} * config.head_dim;
  const int64_t heads = angles * config.kv_heads;
  return {{.columns = angles, .is_wide = true}, {.columns = heads}, {.columns = heads}};
}

// The angles by which pseudo queries are rotated back, [P, d] for positions 0..P-1. They have no
// attention factor, whatever the scaling of RoPE.
absl::StatusOr<std::vector<Tensor>> IhaAttention::MakeConstants(const ModelConfig& config,
                                                                TensorView inv_freq,
                                                                Backend& backend) const {
  std::vector<int32_t> first_positions(pseudo_heads_);
  std::iota(first_positions.begin(), first_positions.end(), 0);
  MEA_ASSIGN_OR_RETURN(const Tensor positions,
                       Place(TensorView::Of(std::span<const int32_t>(first_positions)), backend));
  const std::array<int64_t, 2> shape = {pseudo_heads_, config.head_dim};
  std::vector<Tensor> constants(1);
  MEA_ASSIGN_OR_RETURN(constants[0], backend.Allocate(shape, backend.wide_dtype()));
  backend.ComputeRope(
      {.positions = positions.view(), .inv_freq = inv_freq, .out = constants[0].view()});
  MEA_RETURN_IF_ERROR(backend.Synchronize());
  return constants;
}

int64_t IhaAttention::PlannedConstantBytes(const ModelConfig& config, DType wide) const {
  return int64_t{pseudo_heads_} * config.head_dim * DTypeSize(wide);
}

AttentionKind IhaAttention::KindOf(const ModelConfig& config, int layer) const {
  AttentionKind kind = AttentionVariant::KindOf(config, layer);
  if (!is_interleaved(config, layer)) return kind;
  kind.q_heads *= pseudo_heads_;  // every one counts
  kind.kv_heads *= pseudo_heads_;
  kind.is_composed = true;
  kind.pseudo_heads = pseudo_heads_;
  return kind;
}

OpCost IhaAttention::Cost(const AttentionLoad& load) const {
  if (!is_interleaved(load.config, load.layer)) return AttentionVariant::Cost(load);
  const AttentionShape shape = AttentionShapeOf(load.config, load.layer, load.dtypes.kv);
  const int64_t h = load.config.kv_heads;
  const int64_t d = load.config.head_dim;
  const DType compute = load.dtypes.compute;
  return MixHeadsCost(load.num_tokens, h, pseudo_heads_ * h, d, compute) +
         PrepareQueriesCost(load.num_tokens, pseudo_heads_ * h, d, compute) +
         InterleavedAttentionCost(shape, pseudo_heads_, load.sequences, compute) +
         MixHeadsCost(load.num_tokens, pseudo_heads_ * h, h, d, compute);
}

std::vector<std::pair<std::string, std::string>> IhaAttention::Describe(const ModelConfig& config,
                                                                        KvDTypes kv_dtype) const {
  int64_t bytes = 0;  // of a cache of pseudo heads
  for (int layer = 0; layer < config.num_layers; ++layer) {
    const int64_t copies = is_interleaved(config, layer) ? pseudo_heads_ : 1;
    bytes += copies * KvBytesPerToken(config.LayerKvSpec(layer, kv_dtype));
  }
  return {
      {"pseudo heads", absl::StrCat(pseudo_heads_, " for each head, not cached; they would take ",
                                    Grouped(bytes), " bytes per token")}};
}

std::string IhaAttention::DescribeLayer(const ModelConfig& config, int layer) const {
  if (!is_interleaved(config, layer)) return AttentionVariant::DescribeLayer(config, layer);
  return absl::StrCat(pseudo_heads_, " pseudo heads each");
}

void IhaAttention::BeginStep(Backend& backend, const ComputeRopeArgs& rope,
                             std::span<const TensorView> buffers) const {
  ComputeRopeArgs pseudo = rope;
  pseudo.pseudo_heads = pseudo_heads_;
  const int64_t d = buffers[kAngles].shape[1] / pseudo_heads_;
  pseudo.out = buffers[kAngles].Reshape({buffers[kAngles].shape[0] * pseudo_heads_, d});
  backend.ComputeRope(pseudo);
}

void IhaAttention::Attend(const LayerWeights& layer, AttentionStep& step) const {
  if (layer.variant.empty()) return AttentionVariant::Attend(layer, step);
  const int64_t num_tokens = step.queries.q.shape[0];
  const int64_t h = step.queries.q.shape[1];
  const int64_t d = step.queries.q.shape[2];
  const TensorView angles = step.buffers[kAngles];
  InterleavedAttentionArgs read{
      .paged = step.read, .pseudo_heads = pseudo_heads_, .rotations = step.constants[0].view()};
  read.paged.q = step.buffers[kQueries].Split(pseudo_heads_ * h);
  read.paged.out = step.buffers[kAttended].Split(pseudo_heads_ * h);
  read.paged.mix = layer.mix;

  // Pseudo heads are the outermost dimension, so that each virtual position is a row of h heads.
  step.backend.MixHeads(
      {.x = step.queries.q, .mix = layer.variant[kQueryMix], .out = read.paged.q});
  step.queries.q = read.paged.q.Reshape({num_tokens * pseudo_heads_, h, d});
  step.queries.cos_sin = angles.Reshape({num_tokens * pseudo_heads_, d});
  step.backend.PrepareQueries(step.queries);
  // Token n's keys are cached at the position of its pseudo head 0, n * P.
  step.append.cos_sin = angles.Columns(0, d);
  step.backend.AppendKv(step.append);
  step.backend.InterleavedAttention(read);
  step.backend.MixHeads(
      {.x = read.paged.out, .mix = layer.variant[kCollapse], .out = step.read.out});
}

}  // namespace mea
