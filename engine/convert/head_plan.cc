#include "engine/convert/head_plan.h"

#include <algorithm>
#include <set>

#include "absl/strings/str_cat.h"
#include "engine/convert/budget.h"

namespace mea::convert {
namespace {

constexpr DType kCacheDType = DType::kBf16;  // the unit of bytes
// With more heads than this, not every number of components is tried.
constexpr int kTriedHeads = 8;

}  // namespace

bool HeadPlan::IsChosen(int layer) const {
  const std::vector<int>& layers = options_.layers;
  return layers.empty() || std::find(layers.begin(), layers.end(), layer) != layers.end();
}

std::vector<int> HeadPlan::Candidates() const {
  const int h = config_.kv_heads;
  std::set<int> heads;
  for (int i = 1; i <= kTriedHeads; ++i) heads.insert(std::max(1, h * i / kTriedHeads));
  heads.erase(h);
  return {heads.begin(), heads.end()};
}

LayerHeads HeadPlan::Of(int keys, int values) const {
  const bool all = options_.compose_full_layers;
  return {.key_heads = keys,
          .value_heads = values,
          .key_mix = all || keys < config_.kv_heads,
          .value_mix = all || values < config_.kv_heads};
}

int64_t HeadPlan::BytesPerToken(const LayerPlan& plan) const {
  ModelConfig composed = config_;
  composed.model_type = "mea";
  composed.layer_heads = plan;
  int64_t bytes = 0;
  for (int layer = 0; layer < composed.num_layers; ++layer) {
    bytes += KvBytesPerToken(composed.LayerKvSpec(layer, kCacheDType));
  }
  return bytes;
}

LayerPlan HeadPlan::Given() const {
  const int h = config_.kv_heads;
  const auto at = [&](const std::vector<int>& heads, int layer) {
    if (heads.empty() || !IsChosen(layer)) return h;
    return heads.size() == 1 ? heads[0] : heads[layer];
  };
  LayerPlan plan;
  for (int layer = 0; layer < config_.num_layers; ++layer) {
    plan.push_back(Of(at(options_.key_heads, layer), at(options_.value_heads, layer)));
  }
  return plan;
}

// Items are keys and values of each layer, one after the other; choices its candidates, then all
// heads.
absl::StatusOr<LayerPlan> HeadPlan::WithinBudget(const std::vector<ProfileEntry>& profile) const {
  const int h = config_.kv_heads;
  const std::vector<int> candidates = Candidates();
  const LayerPlan whole(config_.num_layers, LayerHeads{h, h});
  const int64_t budget =
      static_cast<int64_t>(options_.ratio * static_cast<double>(BytesPerToken(whole)));
  const int64_t layer_bytes = BytesPerToken(whole) / config_.num_layers;
  std::vector<std::vector<Choice>> items;
  for (int layer = 0; layer < config_.num_layers; ++layer) {
    for (const bool of_keys : {true, false}) {
      std::vector<Choice>& choices = items.emplace_back();
      choices.push_back({.bytes = layer_bytes / 2});  // all heads
      if (!IsChosen(layer)) continue;
      // A smaller number of heads never counts as better, even if noise in the measurement says so.
      double loss = 0;
      for (auto heads = candidates.rbegin(); heads != candidates.rend(); ++heads) {
        LayerPlan one = whole;
        one[layer] = of_keys ? Of(*heads, h) : Of(h, *heads);
        for (const ProfileEntry& entry : profile) {
          const bool is_it =
              entry.layer == layer && entry.of_keys == of_keys && entry.heads == *heads;
          if (is_it) loss = std::max(loss, entry.kl);
        }
        choices.push_back(
            {.bytes = layer_bytes / 2 + BytesPerToken(one) - BytesPerToken(whole), .loss = loss});
      }
    }
  }
  const absl::StatusOr<std::vector<int>> chosen = SpendBudget(items, budget);
  if (!chosen.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("ratio ", options_.ratio, ": ", chosen.status().message()));
  }
  const auto heads_of = [&](int item) {
    const int choice = (*chosen)[item];
    return choice == 0 ? h : candidates[candidates.size() - choice];
  };
  LayerPlan plan;
  for (int layer = 0; layer < config_.num_layers; ++layer) {
    plan.push_back(Of(heads_of(2 * layer), heads_of(2 * layer + 1)));
  }
  return plan;
}

}  // namespace mea::convert
