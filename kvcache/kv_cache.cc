#include "kvcache/kv_cache.h"

#include <array>

#include "absl/strings/str_cat.h"
#include "kernels/backend.h"
#include "kernels/human_bytes.h"
#include "kernels/status_macros.h"

namespace mea {
namespace {

// The vectors in dense slabs, which may be followed by scales.
TensorView Slabs(TensorView dense, int64_t page_size, int64_t head_dim) {
  TensorView view = dense;
  view.rank = 4;
  view.shape = {dense.shape[0], dense.shape[1], page_size, head_dim};
  view.stride = {dense.stride[0], dense.stride[1], KvHeadElements(head_dim, dense.dtype), 1};
  return view;
}

}  // namespace

absl::StatusOr<std::unique_ptr<KvCache>> KvCache::Create(Backend& backend, KvLayout layout,
                                                         int num_pages) {
  return Create(std::vector<Backend*>{&backend}, std::move(layout), num_pages);
}

absl::StatusOr<std::unique_ptr<KvCache>> KvCache::Create(std::vector<Backend*> backends,
                                                         KvLayout layout, int num_pages) {
  return Create(std::move(backends), std::move(layout), num_pages,
                [](Backend& backend, std::span<const int64_t> shape, DType dtype) {
                  return backend.Allocate(shape, dtype);
                });
}

absl::StatusOr<std::unique_ptr<KvCache>> KvCache::Create(std::vector<Backend*> backends,
                                                         KvLayout layout, int num_pages,
                                                         AllocateTensor allocate_tensor) {
  MEA_CHECK(num_pages > 0 && layout.page_size > 0);
  MEA_CHECK(std::ssize(backends) == layout.num_ranks());
  std::unique_ptr<KvCache> cache(new KvCache(std::move(layout), num_pages));
  const KvLayout& sizes = cache->layout_;
  const int page_size = sizes.page_size;

  // [num_pages, heads, elements of a slab]
  const auto allocate = [&](Backend* backend, int64_t heads, int64_t bytes,
                            DType dtype) -> absl::StatusOr<TensorView> {
    const std::array<int64_t, 3> shape = {num_pages, heads, bytes / DTypeSize(dtype)};
    absl::StatusOr<Tensor> tensor = allocate_tensor(*backend, shape, dtype);
    if (!tensor.ok()) {
      return absl::Status(tensor.status().code(),
                          absl::StrCat("KV cache of ", HumanBytes(num_pages * sizes.PageBytes()),
                                       ": ", tensor.status().message()));
    }
    cache->storage_.push_back({.backend = backend, .slabs = *std::move(tensor)});
    return cache->storage_.back().slabs.view();
  };

  for (int i = 0; i < std::ssize(sizes.layers); ++i) {
    if (const int owner = sizes.StorageOf(i); owner != i) {
      cache->layers_.push_back(cache->layers_[owner]);
      continue;
    }
    Backend* const backend = backends[sizes.rank_of(i)];
    const KvSpec& spec = sizes.layers[i];
    PagedKvView layer{.spec = spec, .page_size = page_size};
    const auto slabs = [&](int heads, DType dtype) -> absl::StatusOr<TensorView> {
      const int64_t slab_bytes = page_size * KvHeadBytes(spec.head_dim, dtype);
      MEA_ASSIGN_OR_RETURN(const TensorView dense, allocate(backend, heads, slab_bytes, dtype));
      return Slabs(dense, page_size, spec.head_dim);
    };
    MEA_ASSIGN_OR_RETURN(layer.keys, slabs(spec.key_heads, spec.dtype.keys));
    MEA_ASSIGN_OR_RETURN(layer.values, slabs(spec.value_heads, spec.dtype.values));
    if (spec.key_norm_heads > 0) {
      const DType dtype = spec.key_norm_dtype();
      MEA_ASSIGN_OR_RETURN(layer.key_norms, allocate(backend, spec.key_norm_heads,
                                                     page_size * DTypeSize(dtype), dtype));
    }
    cache->layers_.push_back(layer);
  }
  return cache;
}

void KvCache::EnablePrefixCache() {
  MEA_CHECK(pool_.num_used() == 0);
  prefix_.emplace(&pool_, &layout_);
}

int KvCache::MatchPrefix(PageTable& table, std::span<const int32_t> tokens, std::string_view salt) {
  if (!prefix_) return 0;
  return prefix_->Match(tokens, salt, table);
}

void KvCache::CountLookup(int num_tokens, int num_found) {
  if (!prefix_) return;
  prefix_queries_ += num_tokens;
  prefix_hits_ += num_found;
}

bool KvCache::Reserve(PageTable& table, int num_computed, int num_tokens) {
  ends_.clear();
  for (int group = 0; group < layout_.num_groups(); ++group) {
    table.Skip(group, layout_.FirstPage(group, num_computed));
    ends_.push_back(layout_.EndPage(group, num_computed, num_tokens));
  }
  return table.Grow(ends_);
}

bool KvCache::Fork(const PageTable& from, int num_tokens, PageTable& table) {
  MEA_CHECK(table.num_pages() == 0);
  const int num_full = num_tokens / layout_.page_size;
  const int num_pages = (num_tokens + layout_.page_size - 1) / layout_.page_size;
  for (int group = 0; group < layout_.num_groups(); ++group) {
    const std::span<const int32_t> pages = from.pages(group);
    MEA_CHECK(num_pages <= std::ssize(pages));
    const int first = layout_.FirstPage(group, num_tokens);
    if (first < num_pages && pages[first] == PageTable::kNone) {
      table.Clear();
      return false;
    }
    table.Skip(group, first);
    for (int i = first; i < num_full; ++i) table.Share(pages[i], group);
  }
  if (num_full == num_pages) return true;
  ends_.assign(layout_.num_groups(), num_pages);
  if (!table.Grow(ends_)) {
    table.Clear();
    return false;
  }
  for (int group = 0; group < layout_.num_groups(); ++group) {
    CopyPage(from.pages(group)[num_full], table.pages(group)[num_full]);
  }
  return true;
}

// Every group uses all of the storage.
void KvCache::CopyPage(int32_t from, int32_t to) {
  for (const auto& [backend, slabs] : storage_) {
    backend->Copy({.from = slabs.view().Rows(from, 1), .to = slabs.view().Rows(to, 1)});
  }
}

void KvCache::IndexPrefix(PageTable& table, std::span<const int32_t> tokens, std::string_view salt,
                          int begin, int end) {
  if (!prefix_) return;
  prefix_->Insert(tokens, salt, begin / layout_.page_size, end / layout_.page_size, table);
}

KvCacheStats KvCache::stats() const {
  KvCacheStats stats;
  stats.page_size = layout_.page_size;
  stats.num_pages = pool_.num_pages();
  stats.used_pages = pool_.num_used();
  stats.cached_pages = pool_.num_cached();
  stats.free_pages = pool_.num_free();
  const int64_t page_bytes = layout_.PageBytes();
  stats.total_bytes = stats.num_pages * page_bytes;
  stats.used_bytes = stats.used_pages * page_bytes;
  stats.cached_bytes = stats.cached_pages * page_bytes;
  stats.used_bytes_uncompressed = stats.used_pages * layout_.UncompressedPageBytes();
  stats.max_tokens = int64_t{stats.num_pages} / layout_.num_groups() * layout_.page_size;
  stats.bytes_per_token = layout_.BytesPerToken();
  stats.bytes_per_token_uncompressed = layout_.UncompressedBytesPerToken();
  stats.prefix_queries = prefix_queries_;
  stats.prefix_hits = prefix_hits_;
  return stats;
}

int64_t KvCache::allocated_bytes() const {
  int64_t bytes = 0;
  for (const Storage& storage : storage_) bytes += storage.slabs.num_bytes();
  return bytes;
}

}  // namespace mea
