#pragma once

#include <cstddef>

namespace mea::simt {

// d[j] += sum_k a[k] b[k][j], j < n, k < 16, as coarsely as a tensor core may: all seventeen
// addends of a sum are cut, toward zero, to the 24 bits of the largest, and so is the sum. Products
// of two BF16 are exact before that.
void AddTensorCoreProducts(const float* a, const float* b, size_t n, float* d);

}  // namespace mea::simt
