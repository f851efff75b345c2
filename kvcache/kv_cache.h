#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "kernels/paged_kv.h"
#include "kernels/tensor.h"
#include "kvcache/kv_layout.h"
#include "kvcache/page_pool.h"
#include "kvcache/page_table.h"
#include "kvcache/prefix_index.h"

namespace mea {

class Backend;

// Zeroed memory where the back end's ops read and write.
using AllocateTensor = absl::FunctionRef<absl::StatusOr<Tensor>(
    Backend& backend, std::span<const int64_t> shape, DType dtype)>;

// What the cache holds now, in the units that people ask for. free + cached + used == total, in
// pages and bytes.
struct KvCacheStats {
  int page_size = 0;  // tokens
  int num_pages = 0;
  int used_pages = 0;
  int cached_pages = 0;  // held by nobody, but can be found again by their contents
  int free_pages = 0;
  int64_t total_bytes = 0;  // allocated
  int64_t used_bytes = 0;
  int64_t cached_bytes = 0;
  int64_t used_bytes_uncompressed = 0;  // of the used pages, with all virtual heads in BF16
  int64_t max_tokens = 0;               // that all pages hold together, if no layer had a window
  int64_t bytes_per_token = 0;
  int64_t bytes_per_token_uncompressed = 0;
  // Prompt tokens looked up in the prefix cache, and tokens found.
  int64_t prefix_queries = 0;
  int64_t prefix_hits = 0;
};

// The paged cache of component heads: owns the storage of every layer and the pool of page ids.
// Everything is allocated in Create; serving allocates nothing. Engine thread only; the back ends
// must outlive it.
class KvCache {
 public:
  // RESOURCE_EXHAUSTED when the storage does not fit in memory.
  static absl::StatusOr<std::unique_ptr<KvCache>> Create(Backend& backend, KvLayout layout,
                                                         int num_pages);
  // The same on the back end of each rank of the layout.
  static absl::StatusOr<std::unique_ptr<KvCache>> Create(std::vector<Backend*> backends,
                                                         KvLayout layout, int num_pages);
  // Likewise in memory that the caller allocates.
  static absl::StatusOr<std::unique_ptr<KvCache>> Create(std::vector<Backend*> backends,
                                                         KvLayout layout, int num_pages,
                                                         AllocateTensor allocate_tensor);

  const KvLayout& layout() const { return layout_; }
  // Layers of different groups may share a storage and use different pages of it.
  PagedKvView layer(int index) const { return layers_[index]; }
  // Tokens of the longest sequence that fits alone.
  int max_tokens() const { return max_tokens_; }
  int num_free_pages() const { return pool_.num_free(); }

  // From here on full pages can be found again by their contents, until they are needed for
  // something else. Call this before the first page is taken.
  void EnablePrefixCache();
  // Shares the pages of the longest known prefix with an empty table. Returns how many tokens they
  // hold, always fewer than `tokens`; 0 if the prefix cache is off. Counted only when CountLookup
  // says that the sequence started with them.
  int MatchPrefix(PageTable& table, std::span<const int32_t> tokens, std::string_view salt);
  void CountLookup(int num_tokens, int num_found);
  // The tokens [begin, end) of a sequence are in the cache now: makes the pages that they filled
  // findable. Earlier calls have covered those before `begin`.
  void IndexPrefix(PageTable& table, std::span<const int32_t> tokens, std::string_view salt,
                   int begin, int end);

  // Forgets all prefixes; sequences keep what they hold.
  void ClearPrefixCache() {
    if (prefix_) prefix_->Clear();
  }
  // Whether changes of the prefix cache are recorded: see PrefixIndex.
  void RecordPrefixEvents(bool record) {
    if (prefix_) record ? prefix_->RecordEvents() : prefix_->StopRecording();
  }
  std::vector<PrefixEvent> TakePrefixEvents() {
    return prefix_ ? prefix_->TakeEvents() : std::vector<PrefixEvent>();
  }

  PageTable NewPageTable() { return PageTable(&pool_, layout_.num_groups()); }
  // Makes room for the next step of a sequence of `num_tokens` tokens, of which earlier steps have
  // computed the first `num_computed`: every page or none. Pages that windows have left are given
  // back first. Without windows, this is room for all tokens.
  [[nodiscard]] bool Reserve(PageTable& table, int num_computed, int num_tokens);
  // Prepares the table for a sequence of up to `num_tokens`, so that growing it allocates nothing.
  void ReserveCapacity(PageTable& table, int num_tokens) const {
    table.ReserveCapacity((num_tokens + layout_.page_size - 1) / layout_.page_size);
  }
  // Gives an empty table the first `num_tokens` tokens of `from`, which are in the cache: full
  // pages are shared, and a partly filled last page is copied. False, and no change, if there is no
  // page for the copy or a page of `from` has been given back. The copy is an op of every back end,
  // in its order.
  [[nodiscard]] bool Fork(const PageTable& from, int num_tokens, PageTable& table);

  KvCacheStats stats() const;
  // Bytes allocated for all layers together; equals num_pages * PageBytes().
  int64_t allocated_bytes() const;

 private:
  // One array of keys, values or norms, of every page.
  struct Storage {
    Backend* backend;
    Tensor slabs;
  };

  KvCache(KvLayout layout, int num_pages)
      : layout_(std::move(layout)), pool_(num_pages), max_tokens_(layout_.MaxTokens(num_pages)) {}
  void CopyPage(int32_t from, int32_t to);

  KvLayout layout_;
  PagePool pool_;
  const int max_tokens_;
  std::optional<PrefixIndex> prefix_;
  int64_t prefix_queries_ = 0;
  int64_t prefix_hits_ = 0;
  std::vector<Storage> storage_;
  std::vector<PagedKvView> layers_;
  std::vector<int> ends_;  // of Reserve, by group
};

}  // namespace mea
