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
    if (missing > pool_->num_free()) return false;
    for (int i = 0; i < missing; ++i) pages_.push_back(pool_->Take());
    return true;
  }

  void Clear() {
    for (const int32_t page : pages_) pool_->Release(page);
    pages_.clear();
  }

 private:
  PagePool* pool_;
  std::vector<int32_t> pages_;
};

}  // namespace mea
