#include "kvcache/page_pool.h"

#include "kernels/check.h"

namespace mea {

PagePool::PagePool(int num_pages) : ref_counts_(num_pages, 0) {
  free_.reserve(num_pages);
  for (int32_t page = num_pages - 1; page >= 0; --page) free_.push_back(page);
}

int32_t PagePool::Take() {
  MEA_CHECK(!free_.empty());
  const int32_t page = free_.back();
  free_.pop_back();
  ref_counts_[page] = 1;
  return page;
}

void PagePool::AddRef(int32_t page) {
  MEA_CHECK(ref_counts_[page] > 0);
  ++ref_counts_[page];
}

void PagePool::Release(int32_t page) {
  MEA_CHECK(ref_counts_[page] > 0);
  if (--ref_counts_[page] == 0) free_.push_back(page);
}

}  // namespace mea
