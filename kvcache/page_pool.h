#pragma once

#include <cstdint>
#include <functional>
#include <vector>

namespace mea {

// Which pages are free and how many holders the others have. Ids only: no memory, no bytes. When
// its last holder releases it, a kept page becomes cached instead of free: it can be held again, or
// be taken for something else, the least recently used first. Engine thread only. Invariant:
// num_free() + num_cached() + num_used() == num_pages(), always.
class PagePool {
 public:
  explicit PagePool(int num_pages);

  int num_pages() const { return static_cast<int>(ref_counts_.size()); }
  int num_free() const { return static_cast<int>(free_.size()); }
  int num_cached() const { return num_cached_; }
  int num_used() const { return num_pages() - num_free() - num_cached(); }
  int num_available() const { return num_free() + num_cached(); }

  // A page with one holder: a free one, else the least recently used cached one, after telling
  // `on_forget`. There must be one: callers check num_available() first.
  int32_t Take();
  // One more holder of a page that is used or cached.
  void AddRef(int32_t page);
  // One holder fewer; after the last, the page is cached if it is kept, else free.
  void Release(int32_t page);
  int ref_count(int32_t page) const { return ref_counts_[page]; }

  // Marks a used page to be cached after its last holder.
  void Keep(int32_t page) { kept_[page] = true; }
  // Undoes Keep; a cached page becomes free.
  void Drop(int32_t page);
  void set_on_forget(std::function<void(int32_t)> on_forget) { on_forget_ = std::move(on_forget); }

 private:
  // The cached pages are a circular list through neighbours_, the oldest behind its head, which is
  // the element after the last page.
  struct Neighbours {
    int32_t before = 0;
    int32_t after = 0;
  };
  void Append(int32_t page);
  void Unlink(int32_t page);

  std::vector<int32_t> free_;  // a stack: the page given back last is the warmest
  std::vector<int32_t> ref_counts_;
  std::vector<bool> kept_;
  std::vector<Neighbours> neighbours_;  // [num_pages + 1]
  int num_cached_ = 0;
  std::function<void(int32_t)> on_forget_;
};

}  // namespace mea
