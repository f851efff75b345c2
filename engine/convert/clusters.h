#pragma once

#include <cstdint>
#include <vector>

#include "engine/convert/matrix.h"
#include "engine/convert/random.h"

namespace mea::convert {

// Heads divided among `count` clusters, each a list of heads: a starting point of an alternating
// solve, with one component per cluster. 1 <= count <= heads.
using Clusters = std::vector<std::vector<int>>;

// Joins the most similar clusters (highest mean affinity between their heads) until `count` are
// left.
Clusters AgglomerateHeads(const Matrix& affinity, int count);
// Dealt out in random order, in sizes as equal as possible.
Clusters RandomClusters(int heads, int count, Random& random);

}  // namespace mea::convert
