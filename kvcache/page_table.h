#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "kvcache/page_pool.h"

namespace mea {

// The pages of one sequence, in token order. Gives them back when it dies, so that no way of ending
// a sequence can leak one. Engine thread only; the pool outlives it.
class PageTable {
 public:
  explicit PageTable(PagePool* pool) : pool_(pool) {}
  ~PageTable() { Clear(); }
  PageTable(PageTable&& other) noexcept
      : pool_(other.pool_), pages_(std::exchange(other.pages_, {})) {}
  PageTable& operator=(PageTable&&) = delete;

  std::span<const int32_t> pages() const { return pages_; }
  int num_pages() const { return static_cast<int>(pages_.size()); }

  // Grows to num_pages pages: all of them or, when the pool has too few, none. Never shrinks.
  [[nodiscard]] bool Grow(int num_pages) {
    const int missing = num_pages - this->num_pages();
    if (missing > pool_->num_available()) return false;
    for (int i = 0; i < missing; ++i) pages_.push_back(pool_->Take());
    return true;
  }

  // Shares a page that is used or cached, as the next of this sequence.
  void Share(int32_t page) {
    pool_->AddRef(page);
    pages_.push_back(page);
  }
  // Lets go of a page for another of the same content.
  void Replace(int index, int32_t page) {
    pool_->AddRef(page);
    pool_->Release(pages_[index]);
    pages_[index] = page;
  }

  // From the last page on, so that of a cached prefix the end is forgotten before the beginning.
  void Clear() {
    while (!pages_.empty()) {
      pool_->Release(pages_.back());
      pages_.pop_back();
    }
  }

 private:
  PagePool* pool_;
  std::vector<int32_t> pages_;
};

}  // namespace mea
