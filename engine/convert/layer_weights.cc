#include "engine/convert/layer_weights.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "engine/storage/convert_dtype.h"
#include "engine/storage/mismatch.h"

namespace mea::convert {
namespace {

// Reads tensors of one layer; the first refusal sticks.
class TensorReader {
 public:
  TensorReader(const SafeTensors& tensors, int layer)
      : tensors_(tensors), prefix_(AttentionPrefix(layer)) {}

  Matrix Read(const char* name, int64_t rows, int64_t cols, bool is_vector = false) {
    Matrix matrix(rows, cols);
    const std::string full = absl::StrCat(prefix_, name);
    const std::vector<int64_t> shape =
        is_vector ? std::vector<int64_t>{rows} : std::vector<int64_t>{rows, cols};
    const StoredTensor* stored = tensors_.Find(full);
    if (stored == nullptr) {
      Refuse(tensors_.source(), full, absl::StrCat("shape ", ShapeString(shape)), "no such tensor");
      return matrix;
    }
    const std::string& file = stored->file->path();
    const std::optional<DType> dtype = LoadableDType(stored->dtype);
    if (stored->shape != shape) {
      Refuse(file, full, absl::StrCat("shape ", ShapeString(shape)), ShapeString(stored->shape));
    } else if (!dtype) {
      Refuse(file, full, "dtype F32, F16 or BF16", StoredDTypeName(stored->dtype));
    } else {
      Widen(*stored, *dtype, matrix);
    }
    return matrix;
  }

  std::vector<double> ReadVector(const char* name, int64_t size) {
    return Read(name, size, 1, /*is_vector=*/true).values;
  }

  const absl::Status& status() const { return status_; }

 private:
  void Widen(const StoredTensor& stored, DType dtype, Matrix& matrix) {
    std::vector<float> row(matrix.cols);
    const int64_t row_bytes = matrix.cols * DTypeSize(dtype);
    for (int64_t i = 0; i < matrix.rows; ++i) {
      const ConversionResult result =
          ConvertDType(stored.data() + i * row_bytes, dtype, row.data(), DType::kF32, matrix.cols);
      if (result.num_non_finite > 0) {
        Refuse(stored.file->path(), stored.name, "finite values",
               absl::StrCat("infinite or NaN in row ", i));
        return;
      }
      std::copy(row.begin(), row.end(), matrix.row(i));
    }
  }

  void Refuse(const std::string& file, const std::string& name, const std::string& expected,
              const std::string& found) {
    if (!status_.ok()) return;
    status_ = absl::InvalidArgumentError(Mismatch(file, ShownName(name), expected, found));
  }

  const SafeTensors& tensors_;
  const std::string prefix_;
  absl::Status status_;
};

}  // namespace

std::string AttentionPrefix(int layer) {
  return absl::StrCat("model.layers.", layer, ".self_attn.");
}

absl::StatusOr<AttentionWeights> ReadAttentionWeights(const Checkpoint& checkpoint, int layer) {
  const ModelConfig& config = checkpoint.config;
  const int64_t hidden = config.hidden_size;
  const int64_t d = config.head_dim;
  const int64_t q_rows = config.q_heads * d;
  const LayerHeads& heads = config.layer_heads[layer];
  const int64_t k_rows = heads.key_heads * d;
  const int64_t v_rows = heads.value_heads * d;
  TensorReader in(checkpoint.tensors, layer);
  AttentionWeights w;
  w.q = in.Read("q_proj.weight", q_rows, hidden);
  w.k = in.Read("k_proj.weight", k_rows, hidden);
  w.v = in.Read("v_proj.weight", v_rows, hidden);
  w.o = in.Read("o_proj.weight", hidden, q_rows);
  if (config.qkv_bias) {
    w.q_bias = in.Read("q_proj.bias", q_rows, 1, /*is_vector=*/true);
    w.k_bias = in.Read("k_proj.bias", k_rows, 1, /*is_vector=*/true);
    w.v_bias = in.Read("v_proj.bias", v_rows, 1, /*is_vector=*/true);
  }
  if (config.qk_norm) {
    w.q_norm = in.ReadVector("q_norm.weight", d);
    w.k_norm = in.ReadVector("k_norm.weight", d);
  }
  if (heads.key_mix) w.k_hlc = in.Read("k_hlc.weight", heads.key_heads, config.kv_heads);
  if (heads.value_mix) w.v_hlc = in.Read("v_hlc.weight", heads.value_heads, config.kv_heads);
  if (!in.status().ok()) return in.status();
  return w;
}

absl::StatusOr<std::vector<double>> ReadQueryNorm(const Checkpoint& checkpoint, int layer) {
  if (!checkpoint.config.qk_norm) return std::vector<double>();
  TensorReader in(checkpoint.tensors, layer);
  std::vector<double> gain = in.ReadVector("q_norm.weight", checkpoint.config.head_dim);
  if (!in.status().ok()) return in.status();
  return gain;
}

}  // namespace mea::convert
