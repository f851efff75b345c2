#pragma once

#include "engine/checkpoint/convert_dtype.h"
#include "kernels/tensor.h"

namespace mea {

// Folds a linear knock of KHA (arXiv 2510.23052) into a projection or its bias. `w` has the
// elements of `out`, [heads * d, in] or [heads * d], and `knock` is T [d, d] in f32, applied as y =
// x T^T to what each head projects: rows i of a head become sum_k T[i, k] w[k]. Sums are formed in
// double precision and rounded once to out's dtype (f32, bf16 or f16).
ConversionResult FoldKnock(const void* w, DType w_dtype, TensorView knock, TensorView out);

}  // namespace mea
