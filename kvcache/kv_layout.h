#pragma once

#include <cstdint>
#include <vector>

#include "kernels/paged_kv.h"

namespace mea {

// Every byte count of a cache comes from here and from KvBytesPerToken in kernels/paged_kv.h. h'_K
// and h'_V physical heads, h virtual heads, d = head_dim.

// Bytes the same token would take if all h virtual heads were stored: 2 * h * d elements.
int64_t UncompressedKvBytesPerToken(const KvSpec& spec, int kv_heads);

// The cache of a whole model: one page holds page_size tokens of every layer.
struct KvLayout {
  std::vector<KvSpec> layers;
  int kv_heads = 0;   // virtual heads h
  int page_size = 0;  // tokens per page

  int64_t BytesPerToken() const;
  int64_t UncompressedBytesPerToken() const;
  int64_t PageBytes() const { return BytesPerToken() * page_size; }
  int64_t UncompressedPageBytes() const { return UncompressedBytesPerToken() * page_size; }
  // Physical over uncompressed bytes: 0.5 where half of the heads are cached.
  double CompressionRatio() const;
  int PagesFor(int num_tokens) const { return (num_tokens + page_size - 1) / page_size; }
};

}  // namespace mea
