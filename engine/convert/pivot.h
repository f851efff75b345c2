#pragma once

#include <vector>

#include "engine/convert/convert.h"
#include "engine/convert/layer_weights.h"
#include "engine/convert/matrix.h"

namespace mea::convert {

// A mix W [h', h] whose components were chosen among the heads they compose: K_j = sum_c W(c, j)
// K_c stays what it is when component c becomes head heads[c] itself, K'_c = sum_k W(k, heads[c])
// K_k, and W becomes W' with W = W_S W', W_S the columns `heads` of W.
struct Pivots {
  std::vector<int> heads;  // [h'], rising
  Matrix mix;              // [h', h] W': column heads[c] is exactly the unit vector c
  MixForm form;
};

// Heads of nearly the largest |det W_S|: no entry of W' exceeds 1.05, since making that head the
// component would make the determinant larger by this factor. A mix that already has this form
// keeps it. If W has a rank r < h' (a component that no head uses, equal heads), r heads compose
// the others and the remaining components are further heads, which need no basis.
Pivots ChoosePivots(const Matrix& mix);

// The same layer with components that are heads, for keys and values if they are mixed: rows of k
// and v, their biases and the mixes, in double precision.
struct LayerForm {
  std::optional<MixForm> keys;
  std::optional<MixForm> values;
};
LayerForm BringIntoPivotForm(int head_dim, LayerMatrices& weights);

}  // namespace mea::convert
