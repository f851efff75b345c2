#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "kernels/check.h"
#include "kvcache/page_pool.h"

namespace mea {

// The pages of one sequence, for each group of layers in token order. Returns them when it is
// destroyed, so no way of ending a sequence can leak one. Engine thread only; the pool must outlive
// it.
class PageTable {
 public:
  static constexpr int32_t kNone = -1;  // given back, or never taken

  explicit PageTable(PagePool* pool, int num_groups = 1) : pool_(pool), groups_(num_groups) {}
  ~PageTable() { Clear(); }
  PageTable(PageTable&& other) noexcept
      : pool_(other.pool_),
        groups_(std::exchange(other.groups_, {})),
        num_pages_(std::exchange(other.num_pages_, 0)) {}
  PageTable& operator=(PageTable&&) = delete;

  int num_groups() const { return static_cast<int>(groups_.size()); }
  // By position / page_size; kNone for pages before the window.
  std::span<const int32_t> pages(int group = 0) const { return groups_[group].pages; }
  int num_pages() const { return num_pages_; }  // that it holds, of all groups

  // Releases the group's pages before `first`, including ones that are taken later.
  void Skip(int group, int first) {
    Group& g = groups_[group];
    const int end = std::min(first, g.size());
    for (; g.begin < end; ++g.begin) Release(std::exchange(g.pages[g.begin], kNone));
    if (first > g.size()) g.pages.resize(g.begin = first, kNone);
  }
  // Grows every group to as many entries as `ends` says: all groups or, if the pool has too few
  // pages, none. Never shrinks.
  [[nodiscard]] bool Grow(std::span<const int> ends) {
    int missing = 0;
    for (int g = 0; g < num_groups(); ++g) missing += std::max(0, ends[g] - groups_[g].size());
    if (missing > pool_->num_available()) return false;
    for (int g = 0; g < num_groups(); ++g) {
      while (groups_[g].size() < ends[g]) Append(g, pool_->Take());
    }
    return true;
  }
  // Allocates this many entries for each group, so that growing to them allocates nothing.
  void ReserveCapacity(int num_entries) {
    for (Group& g : groups_) g.pages.reserve(num_entries);
  }
  int capacity() const { return static_cast<int>(groups_[0].pages.capacity()); }
  // For a single group.
  [[nodiscard]] bool Grow(int end) {
    MEA_CHECK(num_groups() == 1);
    return Grow(std::span(&end, 1));
  }

  // Appends a used or cached page to this sequence, sharing it.
  void Share(int32_t page, int group = 0) {
    pool_->AddRef(page);
    Append(group, page);
  }
  // Replaces a page by another with the same content.
  void Replace(int group, int index, int32_t page) {
    pool_->AddRef(page);
    pool_->Release(std::exchange(groups_[group].pages[index], page));
  }

  // Last tokens first, so that the end of a cached prefix is evicted before its beginning.
  void Clear() {
    int end = 0;
    for (const Group& g : groups_) end = std::max(end, g.size());
    for (int i = end - 1; i >= 0 && num_pages_ > 0; --i) {
      for (const Group& g : groups_) {
        if (i >= g.begin && i < g.size()) Release(g.pages[i]);
      }
    }
    for (Group& g : groups_) {
      g.pages.clear();
      g.begin = 0;
    }
  }

 private:
  struct Group {
    std::vector<int32_t> pages;
    int begin = 0;  // the first that is held
    int size() const { return static_cast<int>(pages.size()); }
  };
  void Append(int group, int32_t page) {
    groups_[group].pages.push_back(page);
    ++num_pages_;
  }
  void Release(int32_t page) {
    pool_->Release(page);
    --num_pages_;
  }

  PagePool* pool_;
  std::vector<Group> groups_;
  int num_pages_ = 0;
};

}  // namespace mea
