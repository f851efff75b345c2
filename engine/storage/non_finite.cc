#include "engine/storage/non_finite.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/storage/mismatch.h"

namespace mea {
namespace {

// A number is not finite if all bits of its exponent are set: adding one to them carries into the
// sign bit. No branch, so that the compiler vectorises it.
template <typename Bits>
struct Exponent {
  Bits lowest;  // bit of the exponent
  static constexpr Bits kSign = Bits{1} << (8 * sizeof(Bits) - 1);
  Bits Carry(Bits x) const { return static_cast<Bits>((x & (kSign - 1)) + lowest); }
};

template <typename Bits>
int64_t Find(const char* elements, Exponent<Bits> exponent, int64_t count) {
  constexpr int64_t kBlock = 4096;
  const auto load = [elements](int64_t i) {
    Bits x;
    std::memcpy(&x, elements + i * static_cast<int64_t>(sizeof(x)), sizeof(x));
    return x;
  };
  for (int64_t first = 0; first < count; first += kBlock) {
    const int64_t end = std::min(count, first + kBlock);
    Bits carries = 0;
    for (int64_t i = first; i < end; ++i) carries |= exponent.Carry(load(i));
    if ((carries & exponent.kSign) == 0) continue;
    for (int64_t i = first; i < end; ++i) {
      if ((exponent.Carry(load(i)) & exponent.kSign) != 0) return i;
    }
  }
  return -1;
}

// "[3, 17]"
std::string Place(const StoredTensor& stored, int64_t index) {
  std::vector<int64_t> place(stored.shape.size());
  for (size_t i = place.size(); i-- > 0; index /= stored.shape[i]) {
    place[i] = index % stored.shape[i];
  }
  return absl::StrCat("[", absl::StrJoin(place, ", "), "]");
}

}  // namespace

int64_t FindNonFinite(const void* elements, DType dtype, int64_t count) {
  const char* const bytes = static_cast<const char*>(elements);
  switch (dtype) {
    case DType::kF32:
      return Find(bytes, Exponent<uint32_t>{0x00800000}, count);
    case DType::kBf16:
      return Find(bytes, Exponent<uint16_t>{0x0080}, count);
    case DType::kF16:
      return Find(bytes, Exponent<uint16_t>{0x0400}, count);
    default:
      MEA_CHECK(!"a float format that checkpoints load from");
  }
  return -1;
}

absl::Status NonFiniteError(const StoredTensor& stored, DType dtype) {
  const DType from = *LoadableDType(stored.dtype);
  const int64_t index = FindNonFinite(stored.data(), from, stored.num_bytes / DTypeSize(from));
  MEA_CHECK(index >= 0);
  return absl::InvalidArgumentError(
      Mismatch(stored.file->path(), ShownName(stored.name),
               absl::StrCat("finite values in ", std::string(DTypeName(dtype))),
               absl::StrCat("an infinity or NaN at ", Place(stored, index))));
}

}  // namespace mea
