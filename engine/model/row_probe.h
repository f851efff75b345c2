#pragma once

#include <array>

#include "absl/status/statusor.h"
#include "kernels/backend.h"

namespace mea {

// Finds rows of activations that hold an infinity or NaN: their product with zero is NaN, that of
// all others is zero. So any back end can check all rows of a step at once, in order with its other
// ops, and only a few floats per row travel to the host.
class RowProbe {
 public:
  static absl::StatusOr<RowProbe> Create(int hidden_size, int max_rows, Backend* backend);
  // What Create allocates on the device.
  static int64_t PlannedBytes(int hidden_size, int max_rows, DType wide);

  // The result of one pass. It may be read after waiting for the back end, until the second Start
  // from now.
  class Answer {
   public:
    Answer() = default;
    explicit Answer(TensorView products) : products_(products) {}
    bool empty() const { return products_.empty(); }
    bool IsFinite(int row) const;

   private:
    TensorView products_;  // [num_rows, kColumns] wide, host
  };
  Answer Start(TensorView x);  // [num_rows, hidden]

  int64_t num_bytes() const { return zeros_.num_bytes() + products_.num_bytes(); }

 private:
  // A device's products need whole vectors of columns.
  static constexpr int64_t kColumns = 8;

  explicit RowProbe(Backend* backend) : backend_(backend) {}

  Backend* backend_;
  Tensor zeros_;                 // [kColumns, hidden] bf16
  Tensor products_;              // [max_rows, kColumns] wide
  std::array<Tensor, 2> hosts_;  // likewise, for the two passes that may be in flight on a device
  int next_host_ = 0;
};

}  // namespace mea
