#include "kvcache/kv_layout.h"

#include <algorithm>
#include <map>
#include <numeric>

#include "kernels/check.h"

namespace mea {
namespace {

// A token before the window is still read by the pseudo heads of the token after it (IHA), and by a
// completion that begins one token before the one it is forked from.
constexpr int kReadBehindWindow = 2;

int PagesOf(int num_tokens, int page_size) { return (num_tokens + page_size - 1) / page_size; }

}  // namespace

int64_t UncompressedKvBytesPerToken(const KvSpec& spec, int kv_heads) {
  return int64_t{2} * kv_heads * KvHeadBytes(spec.head_dim, DType::kBf16);
}

void KvLayout::GroupByWindow(std::span<const int> windows) {
  MEA_CHECK(windows.size() == layers.size());
  group_windows = {0};
  layer_groups.clear();
  layer_places.clear();
  const bool equal = std::ranges::all_of(layers, [&](const auto& l) { return l == layers[0]; });
  if (!equal) return;
  const auto sees_more = [](int a, int b) { return b != 0 && (a == 0 || a > b); };
  std::map<int, int, decltype(sees_more)> num_layers;  // by window
  for (const int window : windows) ++num_layers[window];
  int group_size = 0;
  for (const auto& [window, count] : num_layers) group_size = std::gcd(group_size, count);
  group_windows.clear();
  std::map<int, int> first_group;
  for (const auto& [window, count] : num_layers) {
    first_group[window] = num_groups();
    group_windows.insert(group_windows.end(), count / group_size, window);
  }
  std::map<int, int> num_placed;
  for (const int window : windows) {
    const int num_groups_of_window = num_layers[window] / group_size;
    const int index = num_placed[window]++;
    layer_groups.push_back(first_group[window] + index % num_groups_of_window);
    layer_places.push_back(index / num_groups_of_window);
  }
}

int KvLayout::StorageOf(int layer) const {
  const auto begin = std::ranges::lower_bound(layer_ranks, rank_of(layer));
  return FirstOfPlace(static_cast<int>(begin - layer_ranks.begin()), layer);
}

int KvLayout::FirstOfPlace(int begin, int layer) const {
  if (layer_places.empty()) return layer;
  while (layer_places[begin] != layer_places[layer]) ++begin;
  return begin;
}

int64_t KvLayout::PageBytes() const {
  int64_t bytes = 0;
  for (int rank = 0; rank < num_ranks(); ++rank) bytes += RankPageBytes(rank);
  return bytes;
}

int64_t KvLayout::RankPageBytes(int rank) const {
  if (layer_ranks.empty()) return PageBytesOf(0, static_cast<int>(layers.size()));
  const auto range = std::ranges::equal_range(layer_ranks, rank);
  return PageBytesOf(static_cast<int>(range.begin() - layer_ranks.begin()),
                     static_cast<int>(range.end() - layer_ranks.begin()));
}

int64_t KvLayout::PageBytesOf(int begin, int end) const {
  int64_t bytes = 0;
  for (int layer = begin; layer < end; ++layer) {
    if (FirstOfPlace(begin, layer) == layer) bytes += KvBytesPerToken(layers[layer]);
  }
  return bytes * page_size;
}

int64_t KvLayout::BytesPerToken() const {
  int64_t bytes = 0;
  for (const KvSpec& spec : layers) bytes += KvBytesPerToken(spec);
  return bytes;
}

int64_t KvLayout::UncompressedBytesPerToken() const {
  int64_t bytes = 0;
  for (const KvSpec& spec : layers) bytes += UncompressedKvBytesPerToken(spec, kv_heads);
  return bytes;
}

double KvLayout::CompressionRatio() const {
  return static_cast<double>(BytesPerToken()) / static_cast<double>(UncompressedBytesPerToken());
}

int KvLayout::FirstPage(int group, int num_computed) const {
  const int window = group_windows[group];
  if (window == 0) return 0;
  return std::max(0, num_computed - (window - 1) - kReadBehindWindow) / page_size;
}

// The full amount from the beginning, so that a prompt that has begun needs no more later.
int KvLayout::EndPage(int group, int num_computed, int num_tokens) const {
  const int window = group_windows[group];
  if (window == 0) return PagesOf(num_tokens, page_size);
  const int behind = std::max(num_computed, window - 1 + kReadBehindWindow);
  return PagesOf(std::min(num_tokens, behind + max_batch_tokens), page_size);
}

int64_t KvLayout::PagesFor(int num_tokens) const {
  int64_t pages = 0;
  for (const int window : group_windows) {
    int most = PagesOf(num_tokens, page_size);
    if (window > 0) {
      // One more, for the case that neither end is a page boundary.
      const int seen = window - 1 + kReadBehindWindow + max_batch_tokens;
      most = std::min(most, PagesOf(seen, page_size) + 1);
    }
    pages += most;
  }
  return pages;
}

int KvLayout::MaxTokens(int num_pages) const {
  int fits = 0;
  for (int bit = 1 << 30; bit > 0; bit /= 2) {
    if (fits + int64_t{bit} <= 1 << 30 && PagesFor(fits + bit) <= num_pages) fits += bit;
  }
  return fits;
}

}  // namespace mea
