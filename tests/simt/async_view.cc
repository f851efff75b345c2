#include "tests/simt/async_view.h"

#include <algorithm>
#include <cstring>

namespace mea::simt {

AsyncView::AsyncView(Block& block)
    : block_(block), seen_(static_cast<size_t>(block.shared().bytes()), std::byte{0xff}) {}

void AsyncView::Written(const std::byte* shared, int bytes) {
  std::copy_n(shared, bytes, seen_.begin() + (shared - block_.shared().data()));
}

bool AsyncView::Sees(const std::byte* shared, int bytes) {
  if (fenced_) Written(block_.shared().data(), block_.shared().bytes());
  fenced_ = false;
  const auto offset = static_cast<size_t>(shared - block_.shared().data());
  return std::memcmp(shared, seen_.data() + offset, static_cast<size_t>(bytes)) == 0;
}

}  // namespace mea::simt
