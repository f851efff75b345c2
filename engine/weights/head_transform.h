#pragma once

#include "engine/storage/convert_dtype.h"
#include "kernels/tensor.h"

namespace mea {

// Applies T [d, d], f32, to every head that a projection makes, y = x T^T, by folding it into the
// projection or its bias: rows i of a head become sum_k T[i, k] w[k]. `w` has the elements of
// `out`, [heads * d, in] or [heads * d]. Sums are formed in double precision and rounded once to
// out's dtype (f32, bf16 or f16).
ConversionResult TransformHeads(const void* w, DType w_dtype, TensorView transform, TensorView out);

}  // namespace mea
