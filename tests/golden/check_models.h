#pragma once

#include <vector>

#include "kernels/backend.h"
#include "tests/golden/golden_data.h"

// Models with goldens, loaded and run as the engine does, against them. Page sizes and chunks
// change with the seed.
namespace mea::golden {

struct Variant {
  std::vector<int> page_sizes;
  DType weights;
  DType cache;
  double tolerance;    // relative, of the logits
  double safe_margin;  // greedy tokens are compared where no step is nearer to a tie; 0 = never
};

// Doubles throughout: what is left is the order of sums.
inline const Variant kReference = {.page_sizes = {1, 3, 16, 40},
                                   .weights = DType::kF32,
                                   .cache = DType::kF64,
                                   .tolerance = 1e-12,
                                   .safe_margin = 1e-5};
// 2^-24 per operation, grown by up to three layers and the cancellation of virtual keys.
inline const Variant kFloat = {.page_sizes = {16, 32, 48},
                               .weights = DType::kF32,
                               .cache = DType::kF32,
                               .tolerance = 1e-5,
                               .safe_margin = 1e-3};
// Cached keys and values carry 2^-9 each; the weights' rounding is in the golden logits already.
inline const Variant kBfloat = {.page_sizes = {16, 32, 48},
                                .weights = DType::kBf16,
                                .cache = DType::kBf16,
                                .tolerance = 2e-2,
                                .safe_margin = 0};

// Whether this machine's best CPU target rounds what meets BF16 to BF16: the rows of products with
// weights, and what attention multiplies with the cache. Each carries 2^-8 then, beside the
// roundings of the cache itself; up to 2.5 times the error was seen, 2.6e-2 with kBfloat's models.
bool CpuRoundsRows();
// kBfloat on that target.
Variant CpuBfloat();

// Activations are BF16 too: 2^-9 more for every op of up to three layers. 2.1e-2 was seen.
inline const Variant kCuda = {.page_sizes = {64, 128},
                              .weights = DType::kBf16,
                              .cache = DType::kBf16,
                              .tolerance = 3e-2,
                              .safe_margin = 0};

// Expects the logits within the tolerance, and greedy tokens equal where no tie is near. Returns
// how many were continued greedily. `what` is printed with the largest error.
int CheckAll(const std::vector<RandomModel>& models, Backend& backend, const Variant& variant,
             const char* what);

}  // namespace mea::golden
