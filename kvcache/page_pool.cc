#include "kvcache/page_pool.h"

#include "kernels/check.h"

namespace mea {

PagePool::PagePool(int num_pages)
    : ref_counts_(num_pages, 0), kept_(num_pages, false), neighbours_(num_pages + 1) {
  free_.reserve(num_pages);
  for (int32_t page = num_pages - 1; page >= 0; --page) free_.push_back(page);
  neighbours_[num_pages] = {.before = num_pages, .after = num_pages};
}

int32_t PagePool::Take() {
  int32_t page = 0;
  if (!free_.empty()) {
    page = free_.back();
    free_.pop_back();
  } else {
    MEA_CHECK(num_cached_ > 0);
    page = neighbours_[num_pages()].after;
    Unlink(page);
    kept_[page] = false;
    on_forget_(page);
  }
  ref_counts_[page] = 1;
  return page;
}

void PagePool::AddRef(int32_t page) {
  if (ref_counts_[page] == 0) {
    MEA_CHECK(kept_[page]);
    Unlink(page);
  }
  ++ref_counts_[page];
}

void PagePool::Release(int32_t page) {
  MEA_CHECK(ref_counts_[page] > 0);
  if (--ref_counts_[page] > 0) return;
  if (kept_[page]) {
    Append(page);
  } else {
    free_.push_back(page);
  }
}

void PagePool::Drop(int32_t page) {
  MEA_CHECK(kept_[page]);
  kept_[page] = false;
  if (ref_counts_[page] > 0) return;
  Unlink(page);
  free_.push_back(page);
}

void PagePool::Append(int32_t page) {
  Neighbours& head = neighbours_[num_pages()];
  neighbours_[page] = {.before = head.before, .after = num_pages()};
  neighbours_[head.before].after = page;
  head.before = page;
  ++num_cached_;
}

void PagePool::Unlink(int32_t page) {
  const Neighbours& self = neighbours_[page];
  neighbours_[self.before].after = self.after;
  neighbours_[self.after].before = self.before;
  --num_cached_;
}

}  // namespace mea
