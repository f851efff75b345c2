#include "engine/weights/tensor_spec.h"

#include <algorithm>

#include "kernels/check.h"

namespace mea {

TensorSpec& TensorList::Of(const TensorView& view) {
  const auto spec = std::find_if(specs_.begin(), specs_.end(),
                                 [&](const TensorSpec& s) { return s.view == &view; });
  MEA_CHECK(spec != specs_.end());
  return *spec;
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
