#include "engine/weights/tensor_spec.h"

#include <algorithm>

#include "kernels/check.h"

namespace mea {

const TensorSpec* TensorList::Find(const TensorView& view) const {
  // From the end: most lookups are for an entry that was added recently.
  const auto spec = std::find_if(specs_.rbegin(), specs_.rend(),
                                 [&](const TensorSpec& s) { return s.view == &view; });
  return spec == specs_.rend() ? nullptr : &*spec;
}

TensorSpec& TensorList::Of(const TensorView& view) {
  const TensorSpec* spec = Find(view);
  MEA_CHECK(spec != nullptr);
  return const_cast<TensorSpec&>(*spec);
}

std::vector<std::span<const TensorSpec>> RunsOf(const TensorList& list) {
  const std::span<const TensorSpec> specs(list.specs());
  std::vector<std::span<const TensorSpec>> runs;
  for (size_t begin = 0, end = 0; begin < specs.size(); begin = end) {
    end = begin + 1;
    while (end < specs.size() && specs[end].joins) ++end;
    runs.push_back(specs.subspan(begin, end - begin));
  }
  return runs;
}

}  // namespace mea
