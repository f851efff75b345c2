#pragma once

#include <cstdint>
#include <vector>

#include "engine/convert/matrix.h"
#include "engine/convert/random.h"

namespace mea::convert {

// Heads divided among `count` clusters, each a list of heads: where an alternating solve may start,
// with one component per cluster. 1 <= count <= heads.
using Clusters = std::vector<std::vector<int>>;

// Joins the most alike (highest mean affinity between their heads) until `count` are left.
Clusters AgglomerateHeads(const Matrix& affinity, int count);
// Dealt out in random order, sizes as equal as can be.
Clusters RandomClusters(int heads, int count, Random& random);

}  // namespace mea::convert
