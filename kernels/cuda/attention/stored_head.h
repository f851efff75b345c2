#pragma once

#include "kernels/cuda/attention/integer_slab.h"
#include "kernels/cuda/attention/params.h"
#include "kernels/cuda/device/simt.h"

namespace mea::cuda {

// One token's key or value of one component as the cache stores it, two neighbours at a time; in 4
// bits they are rotated. kIntegers: of any format; otherwise of BF16.
template <bool kIntegers>
class StoredHead {
 public:
  __device__ StoredHead(const AttentionParams& p, const void* slabs, DType dtype, int page,
                        int num_heads, int head, int token)
      : layout_(p.layout()), token_(token), dtype_(dtype) {
    if (kIntegers && dtype != DType::kBf16) {
      const IntegerSlab integers = {p.page_size, p.head_dim, dtype};
      slab_ = static_cast<const std::byte*>(slabs) + integers.Begin(page, num_heads, head);
      scale_ = Widen(*reinterpret_cast<const Bf16*>(slab_ + integers.Scale(token)));
      if (dtype == DType::kI4) {
        zero_ = Widen(*reinterpret_cast<const Bf16*>(slab_ + integers.Zero(token)));
      }
    } else {
      slab_ = reinterpret_cast<const std::byte*>(static_cast<const Bf16*>(slabs) +
                                                 layout_.SlabBegin(page, num_heads, head));
    }
  }

  // Elements e, which is even, and e + 1.
  __device__ __forceinline__ float2 Pair(int e) const {
    if constexpr (kIntegers) {
      const IntegerSlab integers = {layout_.page_size, layout_.head_dim, dtype_};
      if (dtype_ == DType::kI8) {
        const int pair = *reinterpret_cast<const uint16_t*>(slab_ + integers.Offset(token_, e));
        return {scale_ * static_cast<float>(static_cast<int8_t>(pair)),
                scale_ * static_cast<float>(static_cast<int8_t>(pair >> 8))};
      }
      if (dtype_ == DType::kI4) {
        const int pair = static_cast<int>(slab_[integers.Offset(token_, e)]);
        return {scale_ * static_cast<float>(pair & 15) + zero_,
                scale_ * static_cast<float>(pair >> 4) + zero_};
      }
    }
    const Bf16* elements = reinterpret_cast<const Bf16*>(slab_) + layout_.Offset(token_, e);
    return UnpackBf16(*reinterpret_cast<const uint32_t*>(elements));
  }

 private:
  const std::byte* slab_;
  SlabLayout layout_;
  int token_;
  DType dtype_;
  float scale_ = 0.0f;
  float zero_ = 0.0f;
};

}  // namespace mea::cuda
