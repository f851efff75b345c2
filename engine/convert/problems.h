#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "engine/config/config.h"
#include "engine/convert/compose.h"
#include "engine/convert/layer_weights.h"
#include "engine/convert/matrix.h"

namespace mea::convert {

// Statistics of one layer as sums over the tokens of a text. d = head_dim, h = kv_heads, F = d/2.
struct HeadStatistics {
  int64_t num_tokens = 0;
  std::vector<ComplexMatrix> keys;  // [F] of [h, h]: k_jf conj(k_kf)
  Matrix values;                    // [h*d, h*d]: v v^T
  Matrix queries;                   // [h, F]: |q_f|^2 of the queries that read head j
};
using LayerStatistics = std::map<int, HeadStatistics>;  // by layer

// Without statistics every direction of a projection's input and every query counts the same: the
// inner products of the heads are those of their weights.
KeyProblem MakeKeyProblem(const ModelConfig& config, const LayerMatrices& weights,
                          const HeadStatistics* statistics);
ValueProblem MakeValueProblem(const ModelConfig& config, const LayerMatrices& weights,
                              const HeadStatistics* statistics);

}  // namespace mea::convert
