#include "engine/weights/packed_matrix.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstring>
#include <initializer_list>
#include <numeric>
#include <span>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/storage/mismatch.h"
#include "engine/storage/non_finite.h"
#include "engine/weights/in_parallel.h"
#include "kernels/int4_rows.h"
#include "kernels/machine.h"
#include "kernels/status_macros.h"

namespace mea {
namespace {

constexpr int kPerWord = 8;
// Where a word of AWQ has each of its eight outputs.
constexpr std::array<int, kPerWord> kAwqPlaces = {0, 4, 1, 5, 2, 6, 3, 7};
// So many outputs are unpacked at once: neighbours lie in the same cache lines.
constexpr int64_t kOutsAtOnce = 64;
constexpr int64_t kUnpackedByAThread = 1 << 20;  // elements

absl::Status RefusePart(const StoredTensor& tensor, const std::string& expected,
                        const std::string& found) {
  return absl::InvalidArgumentError(
      Mismatch(tensor.file->path(), ShownName(tensor.name), expected, found));
}

absl::StatusOr<const StoredTensor*> FindPart(const SafeTensors& tensors, const std::string& name,
                                             const std::vector<int64_t>& shape,
                                             std::initializer_list<StoredDType> dtypes) {
  const std::string expected = absl::StrCat("shape ", ShapeString(shape));
  const StoredTensor* const stored = tensors.Find(name);
  if (stored == nullptr) {
    return absl::InvalidArgumentError(
        Mismatch(tensors.source(), ShownName(name), expected, "no such tensor"));
  }
  if (stored->shape != shape) return RefusePart(*stored, expected, ShapeString(stored->shape));
  if (std::find(dtypes.begin(), dtypes.end(), stored->dtype) == dtypes.end()) {
    std::string names;
    for (const StoredDType dtype : dtypes) {
      absl::StrAppend(&names, names.empty() ? "" : " or ", StoredDTypeName(dtype));
    }
    return RefusePart(*stored, absl::StrCat("dtype ", names), StoredDTypeName(stored->dtype));
  }
  return stored;
}

template <typename T>
T At(const StoredTensor& tensor, int64_t i) {
  T element;
  std::memcpy(&element, tensor.data() + i * int64_t{sizeof(T)}, sizeof(T));
  return element;
}

int64_t GroupsIn(const PackedFormat& format, int64_t k) {
  return format.group_size == 0 ? 1 : (k + format.group_size - 1) / format.group_size;
}

// The stored integer of an output and an input, or of its group.
int StoredInteger(const PackedMatrix& packed, int64_t in, int64_t out) {
  const std::vector<int64_t>& shape = packed.qweight->shape;
  const bool is_gptq = packed.format.method == PackedMethod::kGptq;
  const int64_t word = is_gptq ? in / kPerWord * shape[1] + out : in * shape[1] + out / kPerWord;
  const int place = is_gptq ? static_cast<int>(in % kPerWord) : kAwqPlaces[out % kPerWord];
  return static_cast<int>(At<uint32_t>(*packed.qweight, word) >> (4 * place) & 15);
}
int StoredZero(const PackedMatrix& packed, int64_t group, int64_t out) {
  const int64_t word = group * packed.qzeros->shape[1] + out / kPerWord;
  const bool is_gptq = packed.format.method == PackedMethod::kGptq;
  const int place = is_gptq ? static_cast<int>(out % kPerWord) : kAwqPlaces[out % kPerWord];
  return static_cast<int>(At<uint32_t>(*packed.qzeros, word) >> (4 * place) & 15) +
         packed.format.zero_offset;
}
float StoredScale(const PackedMatrix& packed, int64_t group, int64_t out) {
  const int64_t i = group * packed.scales->shape[1] + out;
  return packed.scales->dtype == StoredDType::kF16 ? ToFloat(At<F16>(*packed.scales, i))
                                                   : ToFloat(At<Bf16>(*packed.scales, i));
}

// The inputs in the order of their groups; empty where they lie in it.
absl::StatusOr<std::vector<int32_t>> OrderOf(const PackedMatrix& packed, int64_t k) {
  std::vector<int32_t> order;
  if (packed.g_idx == nullptr) return order;
  const int64_t num_groups = GroupsIn(packed.format, k);
  std::vector<int32_t> group_of(k);
  for (int64_t i = 0; i < k; ++i) {
    group_of[i] = At<int32_t>(*packed.g_idx, i);
    if (group_of[i] < 0 || group_of[i] >= num_groups) {
      return RefusePart(*packed.g_idx, absl::StrCat("groups of 0 to ", num_groups - 1),
                        absl::StrCat(group_of[i], " at [", i, "]"));
    }
  }
  order.resize(k);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return group_of[a] < group_of[b]; });
  const int64_t size = packed.format.group_size == 0 ? k : packed.format.group_size;
  for (int64_t i = 0; i < k; ++i) {
    const int32_t group = group_of[order[i]];
    if (group == i / size) continue;
    return RefusePart(*packed.g_idx, absl::StrCat(size, " inputs in each group"),
                      absl::StrCat("others in group ", std::min<int64_t>(group, i / size)));
  }
  if (std::is_sorted(order.begin(), order.end())) order.clear();
  return order;
}

// The groups of an output in memory, and the scale that they share: a power of two that brings
// those of BF16 into the range of F16, 1 for those of F16. False if one is not finite.
bool UnpackGroups(const PackedMatrix& packed, int64_t k, int64_t out,
                  std::vector<Int4Group>& groups, float& scale) {
  const int memory_group = packed.memory_group();
  const int64_t num_groups = GroupsIn(packed.format, k);
  int shift = 0;
  if (packed.scales->dtype == StoredDType::kBf16) {
    float largest = 0;
    for (int64_t g = 0; g < num_groups; ++g) {
      largest = std::max(largest, std::abs(StoredScale(packed, g, out)));
    }
    int exponent = 0;
    std::frexp(largest, &exponent);
    shift = std::clamp(exponent - 10, -126, 127);
  }
  scale = std::ldexp(1.0f, shift);
  for (size_t i = 0; i < groups.size(); ++i) {
    const int64_t first = static_cast<int64_t>(i) * memory_group;
    const int64_t group = packed.format.group_size == 0 ? 0 : first / packed.format.group_size;
    const float stored = StoredScale(packed, group, out);
    if (!std::isfinite(stored)) return false;
    groups[i] = {.scale = ToF16(std::ldexp(stored, -shift)),
                 .zero = static_cast<int16_t>(StoredZero(packed, group, out))};
  }
  return true;
}

// Makes these outputs the rows of `to`. False if a scale is not finite.
bool UnpackRows(const PackedMatrix& packed, const std::vector<int64_t>& outs,
                const TensorView& to) {
  const int64_t k = to.shape[1];
  const std::vector<int32_t>& order = to.int4->order;
  std::vector<uint8_t> integers(outs.size() * k);
  for (int64_t i = 0; i < k; ++i) {
    const int64_t in = order.empty() ? i : order[i];
    for (size_t row = 0; row < outs.size(); ++row) {
      integers[row * k + i] = static_cast<uint8_t>(StoredInteger(packed, in, outs[row]));
    }
  }
  bool is_finite = true;
  std::vector<Int4Group> groups(Int4Groups(k, to.int4->group));
  for (size_t row = 0; row < outs.size(); ++row) {
    float scale = 1;
    is_finite &= UnpackGroups(packed, k, outs[row], groups, scale);
    StoreInt4Row(std::span(integers).subspan(row * k, k), groups, scale,
                 to.row<Int4Pair>(static_cast<int64_t>(row)));
  }
  return is_finite;
}

}  // namespace

int PackedMatrix::memory_group() const {
  const int size = format.group_size;
  return size == 32 || size == 64 ? size : kMaxInt4Group;
}

absl::StatusOr<std::optional<PackedMatrix>> FindPackedMatrix(const SafeTensors& tensors,
                                                             const std::string& weight,
                                                             const std::vector<int64_t>& shape,
                                                             const PackedFormat& format) {
  const std::string stem = weight.substr(0, weight.size() - std::string("weight").size());
  const StoredTensor* const qweight = tensors.Find(stem + "qweight");
  if (qweight == nullptr) return std::nullopt;
  const int64_t outs = shape[0];
  const int64_t k = shape[1];
  const bool is_gptq = format.method == PackedMethod::kGptq;
  if (outs % kPerWord != 0 || (is_gptq && k % kPerWord != 0)) {
    return RefusePart(*qweight, "inputs and outputs in eights", ShapeString(shape));
  }
  const int64_t num_groups = GroupsIn(format, k);
  PackedMatrix packed{.format = format};
  const auto words = {StoredDType::kI32, StoredDType::kU32};
  using Shape = std::vector<int64_t>;
  MEA_ASSIGN_OR_RETURN(
      packed.qweight,
      FindPart(tensors, stem + "qweight",
               is_gptq ? Shape{k / kPerWord, outs} : Shape{k, outs / kPerWord}, words));
  MEA_ASSIGN_OR_RETURN(packed.qzeros,
                       FindPart(tensors, stem + "qzeros", {num_groups, outs / kPerWord}, words));
  MEA_ASSIGN_OR_RETURN(packed.scales, FindPart(tensors, stem + "scales", {num_groups, outs},
                                               {StoredDType::kF16, StoredDType::kBf16}));
  if (is_gptq && tensors.Find(stem + "g_idx") != nullptr) {
    MEA_ASSIGN_OR_RETURN(packed.g_idx, FindPart(tensors, stem + "g_idx", {k}, {StoredDType::kI32}));
  }
  return packed;
}

absl::StatusOr<Tensor> UnpackMatrix(const PackedMatrix& packed, int64_t num_rows, int64_t k,
                                    const std::function<int64_t(int64_t row)>& column) {
  MEA_ASSIGN_OR_RETURN(std::vector<int32_t> order, OrderOf(packed, k));
  MEA_ASSIGN_OR_RETURN(
      Tensor tensor,
      AllocateInt4Rows(num_rows, k, {.group = packed.memory_group(), .order = std::move(order)}));
  std::atomic<bool> is_finite = true;
  const int64_t worth_a_thread = std::max<int64_t>(kOutsAtOnce, kUnpackedByAThread / k);
  InParallel(num_rows, worth_a_thread, UsableCpus(), [&](int64_t begin, int64_t end) {
    std::vector<int64_t> outs;
    for (; begin < end; begin += std::ssize(outs)) {
      outs.resize(std::min(kOutsAtOnce, end - begin));
      for (int64_t i = 0; i < std::ssize(outs); ++i) outs[i] = column(begin + i);
      if (!UnpackRows(packed, outs, tensor.view().Rows(begin, std::ssize(outs)))) is_finite = false;
    }
  });
  if (!is_finite) return NonFiniteError(*packed.scales, DType::kI4);
  return tensor;
}

}  // namespace mea
