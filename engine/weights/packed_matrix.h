#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/config/packed_format.h"
#include "engine/storage/safetensors.h"
#include "kernels/tensor.h"

namespace mea {

// The tensors of a matrix [out, in] that GPTQ or AWQ have packed into integers of 4 bits, eight in
// a word of 32, the first in the lowest bits:
//
//            qweight                     qzeros                 scales
//   GPTQ     [in / 8, out], 8 inputs     [groups, out / 8]      [groups, out]
//   AWQ      [in, out / 8], 8 outputs    [groups, out / 8]      [groups, out]
//
// AWQ's words have outputs 0, 2, 4, 6, 1, 3, 5, 7 of eight. GPTQ may add g_idx [in], the group of
// each input, where groups are of inputs that lie apart.
struct PackedMatrix {
  PackedFormat format;
  const StoredTensor* qweight = nullptr;
  const StoredTensor* qzeros = nullptr;
  const StoredTensor* scales = nullptr;
  const StoredTensor* g_idx = nullptr;  // or null

  // The elements that share a scale in memory.
  int memory_group() const;
};

// The tensors of `weight`, "model...q_proj.weight", whose shape would be `shape`; nothing where it
// is not packed. INVALID_ARGUMENT for those that do not fit.
absl::StatusOr<std::optional<PackedMatrix>> FindPackedMatrix(const SafeTensors& tensors,
                                                             const std::string& weight,
                                                             const std::vector<int64_t>& shape,
                                                             const PackedFormat& format);

// The rows of the matrix as kI4, exactly: row i of `num_rows` is output column(i) of the packed
// matrix. INVALID_ARGUMENT for scales that are not finite and groups that do not add up.
absl::StatusOr<Tensor> UnpackMatrix(const PackedMatrix& packed, int64_t num_rows, int64_t k,
                                    const std::function<int64_t(int64_t row)>& column);

}  // namespace mea
