#include "engine/weights/tensor_spec.h"

#include "kernels/check.h"
#include "kernels/matrix.h"

namespace mea {

DType TensorSpec::MatrixDType(DType wanted, DType stored) const {
  if (role == TensorRole::kExactMatrix && IsRounded(wanted)) return stored;
  return role == TensorRole::kVocabulary && wanted == DType::kI4 ? DType::kI8 : wanted;
}

const TensorSpec* TensorList::Find(const TensorView& view) const {
  const size_t index = IndexOf(view);
  return index == specs_.size() ? nullptr : &specs_[index];
}

TensorSpec& TensorList::Of(const TensorView& view) {
  const size_t index = IndexOf(view);
  MEA_CHECK(index < specs_.size());
  return specs_[index];
}

size_t TensorList::IndexOf(const TensorView& view) const {
  // From the end: most lookups are for an entry that was added recently.
  for (size_t i = specs_.size(); i > 0; --i) {
    if (specs_[i - 1].view == &view) return i - 1;
  }
  return specs_.size();
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
