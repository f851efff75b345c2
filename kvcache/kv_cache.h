#pragma once

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/paged_kv.h"
#include "kernels/tensor.h"
#include "kvcache/kv_layout.h"
#include "kvcache/page_pool.h"
#include "kvcache/page_table.h"

namespace mea {

class Backend;

// What the cache holds right now, in the units people ask for. free + used == total, in pages and
// bytes.
struct KvCacheStats {
  int page_size = 0;  // tokens
  int num_pages = 0;
  int used_pages = 0;
  int free_pages = 0;
  int64_t total_bytes = 0;  // allocated
  int64_t used_bytes = 0;
  int64_t used_bytes_uncompressed = 0;  // the used pages, had all virtual heads been stored
  int64_t bytes_per_token = 0;
  int64_t bytes_per_token_uncompressed = 0;
};

// The paged cache of physical heads: owns the storage of every layer and the pool of page ids.
// Everything is allocated in Create; serving allocates nothing. Engine thread only.
class KvCache {
 public:
  // RESOURCE_EXHAUSTED when the storage does not fit in memory.
  static absl::StatusOr<std::unique_ptr<KvCache>> Create(Backend& backend, KvLayout layout,
                                                         int num_pages);

  const KvLayout& layout() const { return layout_; }
  PagedKvView layer(int index) const { return layers_[index]; }
  int max_tokens() const { return pool_.num_pages() * layout_.page_size; }
  int num_free_pages() const { return pool_.num_free(); }

  PageTable NewPageTable() { return PageTable(&pool_); }
  // Makes room for `num_tokens` tokens in all: every page or none.
  [[nodiscard]] bool Reserve(PageTable& table, int num_tokens) {
    return table.Grow(layout_.PagesFor(num_tokens));
  }

  KvCacheStats stats() const;
  // Bytes that were allocated for all layers together; equals num_pages * PageBytes().
  int64_t allocated_bytes() const;

 private:
  KvCache(KvLayout layout, int num_pages) : layout_(std::move(layout)), pool_(num_pages) {}

  KvLayout layout_;
  PagePool pool_;
  std::vector<Tensor> storage_;
  std::vector<PagedKvView> layers_;
};

}  // namespace mea
