#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/paged_kv.h"

namespace mea {

// Every byte count of a cache comes from here and from KvBytesPerToken in kernels/paged_kv.h. h'_K
// and h'_V component heads, h virtual heads, d = head_dim.

// Bytes that the same token would take if all h virtual heads were stored in BF16, whatever the
// cache's own formats: 2 * h * d elements of two bytes.
int64_t UncompressedKvBytesPerToken(const KvSpec& spec, int kv_heads);

// The cache of a whole model. Layers form groups of equal bytes, each with one window. A page holds
// page_size tokens of the layers of one group, and any group can use any page, so a windowed group
// can give back pages that its window has left. Without windows there is one group.
struct KvLayout {
  std::vector<KvSpec> layers;
  int kv_heads = 0;   // virtual heads h
  int page_size = 0;  // tokens per page
  // The windows of the groups in tokens, 0: none; the widest come first.
  std::vector<int> group_windows = {0};
  std::vector<int> layer_groups;  // [num_layers], or empty: all are in the only group
  // [num_layers] the place in its group: layers of one place can share storage, whatever their
  // group. Empty: each has its own.
  std::vector<int> layer_places;
  std::vector<int> layer_ranks;  // [num_layers] the device of each, ascending; empty: there is one
  int max_batch_tokens = 0;      // of one sequence in one step; matters only if there are windows

  // Groups layers with these windows [num_layers], as large as possible, so that layers of one
  // place lie side by side in the model. Layers that store different things stay in one group
  // without a window.
  void GroupByWindow(std::span<const int> windows);
  int num_groups() const { return static_cast<int>(group_windows.size()); }
  int group_of(int layer) const { return layer_groups.empty() ? 0 : layer_groups[layer]; }
  int num_ranks() const { return layer_ranks.empty() ? 1 : layer_ranks.back() + 1; }
  int rank_of(int layer) const { return layer_ranks.empty() ? 0 : layer_ranks[layer]; }
  // The first layer on the same rank that uses the same storage; the layer itself if that is it.
  int StorageOf(int layer) const;

  int64_t BytesPerToken() const;
  int64_t UncompressedBytesPerToken() const;
  // Of a page, on all ranks together and on one. A page has the same number on every rank, which
  // holds what its own layers store. Where ranks cut a place, both have storage for it.
  int64_t PageBytes() const;
  int64_t RankPageBytes(int rank) const;
  // Of a page on a rank that has the layers [begin, end).
  int64_t PageBytesOf(int begin, int end) const;
  int64_t UncompressedPageBytes() const {
    return UncompressedBytesPerToken() * page_size / num_groups();
  }
  // Stored over uncompressed bytes: 0.5 if half of the heads are cached in BF16.
  double CompressionRatio() const;

  // The pages of the group that a sequence needs for its next step and for what may still be read,
  // when num_computed of num_tokens tokens are in the cache: [FirstPage, EndPage).
  int FirstPage(int group, int num_computed) const;
  int EndPage(int group, int num_computed, int num_tokens) const;
  // The most pages, of all groups, that a sequence of this many tokens ever holds.
  int64_t PagesFor(int num_tokens) const;
  // The longest sequence that this many pages hold, at most 2^30 tokens.
  int MaxTokens(int num_pages) const;

 private:
  // The first layer from `begin` on that has the place of `layer`.
  int FirstOfPlace(int begin, int layer) const;
};

}  // namespace mea
