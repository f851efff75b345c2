#pragma once

#include <cstdint>
#include <vector>

namespace mea {

// Which pages are free and how many holders the others have. Ids only: no memory, no bytes.
// Engine thread only. Invariant: num_free() + num_used() == num_pages(), always.
class PagePool {
 public:
  explicit PagePool(int num_pages);

  int num_pages() const { return static_cast<int>(ref_counts_.size()); }
  int num_free() const { return static_cast<int>(free_.size()); }
  int num_used() const { return num_pages() - num_free(); }

  // A free page with one holder. There must be one: callers ask num_free() first.
  int32_t Take();
  // One more holder of a page in use.
  void AddRef(int32_t page);
  // One holder less; the page is free after the last.
  void Release(int32_t page);
  int ref_count(int32_t page) const { return ref_counts_[page]; }

 private:
  std::vector<int32_t> free_;  // a stack: the page given back last is the warmest
  std::vector<int32_t> ref_counts_;
};

}  // namespace mea
