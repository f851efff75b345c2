#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/paged_kv.h"

namespace mea {

// Every byte count of a cache comes from here and from KvBytesPerToken in kernels/paged_kv.h. h'_K
// and h'_V physical heads, h virtual heads, d = head_dim.

// Bytes the same token would take if all h virtual heads were stored: 2 * h * d elements.
int64_t UncompressedKvBytesPerToken(const KvSpec& spec, int kv_heads);

// The cache of a whole model. Layers are put into groups of equal bytes, each with one window: a
// page holds page_size tokens of the layers of one group, any group's, so that a windowed group can
// give back what its window has left. Where no layer has a window there is one group.
struct KvLayout {
  std::vector<KvSpec> layers;
  int kv_heads = 0;   // virtual heads h
  int page_size = 0;  // tokens per page
  // The groups' windows in tokens, 0: none; those that see the most come first.
  std::vector<int> group_windows = {0};
  std::vector<int> layer_groups;  // [num_layers], or empty: all are in the only group
  int max_batch_tokens = 0;       // of one sequence in one step; counts where there are windows

  // Makes groups of layers with these windows [num_layers], as large as possible. Layers that store
  // different things stay in one group, which sees everything.
  void GroupByWindow(std::span<const int> windows);
  int num_groups() const { return static_cast<int>(group_windows.size()); }
  int group_of(int layer) const { return layer_groups.empty() ? 0 : layer_groups[layer]; }

  int64_t BytesPerToken() const;
  int64_t UncompressedBytesPerToken() const;
  int64_t PageBytes() const { return BytesPerToken() * page_size / num_groups(); }
  int64_t UncompressedPageBytes() const {
    return UncompressedBytesPerToken() * page_size / num_groups();
  }
  // Physical over uncompressed bytes: 0.5 where half of the heads are cached.
  double CompressionRatio() const;

  // Pages of the group are wanted by a sequence of which num_computed of num_tokens tokens are in
  // the cache, for the next step and what may still be read: [FirstPage, EndPage).
  int FirstPage(int group, int num_computed) const;
  int EndPage(int group, int num_computed, int num_tokens) const;
  // The most pages, of all groups, that a sequence of so many tokens ever holds.
  int64_t PagesFor(int num_tokens) const;
  // The longest sequence that so many pages hold, at most 2^30 tokens.
  int MaxTokens(int num_pages) const;
};

}  // namespace mea
