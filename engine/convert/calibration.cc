#include "engine/convert/calibration.h"

#include <algorithm>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/convert/statistics.h"
#include "engine/load.h"
#include "engine/storage/convert_dtype.h"
#include "engine/text/tokenizer.h"
#include "kernels/status_macros.h"

namespace mea::convert {
namespace {

constexpr int kWindow = 1024;  // tokens that attend to each other
constexpr int kMaxNumSeqs = 8;
constexpr int kMaxBatchTokens = 512;
constexpr int kPageSize = 32;
constexpr int kDocumentsAtOnce = 16;
// A text of fewer tokens says nothing about a model.
constexpr int64_t kMinTokens = 64;

int WindowOf(const ModelConfig& config) { return std::min(kWindow, config.max_position - 1); }

}  // namespace

int64_t NumTokens(std::span<const std::vector<int32_t>> documents) {
  int64_t count = 0;
  for (const std::vector<int32_t>& document : documents) count += std::ssize(document);
  return count;
}

absl::StatusOr<CalibrationText> ReadCalibrationText(const std::string& file,
                                                    const Checkpoint& checkpoint,
                                                    int64_t learn_tokens, int64_t measure_tokens) {
  std::ifstream in(file, std::ios::binary);
  if (!in) return absl::NotFoundError(absl::StrCat(file, ": cannot be read"));
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  MEA_ASSIGN_OR_RETURN(const auto tokenizer,
                       Tokenizer::Load((checkpoint.dir / "tokenizer.json").string()));
  MEA_ASSIGN_OR_RETURN(Documents documents,
                       SplitDocuments(*tokenizer, text, checkpoint.generation.eos_token_ids,
                                      WindowOf(checkpoint.config)));
  const int64_t total = NumTokens(documents);
  if (total < kMinTokens) {
    return absl::InvalidArgumentError(
        absl::StrCat(file, ": ", total, " tokens, at least ", kMinTokens, " are needed"));
  }
  for (const std::vector<int32_t>& document : documents) {
    for (const int32_t id : document) {
      if (id < checkpoint.config.vocab_size) continue;
      return absl::InvalidArgumentError(absl::StrCat(file, ": token ", id, " is beyond vocab_size ",
                                                     checkpoint.config.vocab_size));
    }
  }
  // One of every four documents is used to measure, until there are enough.
  CalibrationText out;
  if (documents.size() < 4) {
    out.learn = documents;
    out.measure = std::move(documents);
    return out;
  }
  int64_t learn = 0;
  int64_t measure = 0;
  for (size_t i = 0; i < documents.size(); ++i) {
    const bool measures = i % 4 == 1 && measure < std::min(measure_tokens, total / 4);
    if (!measures && learn >= learn_tokens) continue;
    (measures ? measure : learn) += std::ssize(documents[i]);
    (measures ? out.measure : out.learn).push_back(std::move(documents[i]));
  }
  return out;
}

void Reader::Replaceable::Write(const Matrix& matrix, const Matrix& new_bias) const {
  const std::vector<float> narrow(matrix.values.begin(), matrix.values.end());
  MEA_CHECK(std::ssize(narrow) == weight.num_elements());
  ConvertDType(narrow.data(), DType::kF32, weight.data, weight.dtype, std::ssize(narrow));
  if (!new_bias.empty())
    std::copy(new_bias.values.begin(), new_bias.values.end(), bias.as<float>());
}

void Reader::Replaceable::Restore() const {
  std::memcpy(weight.data, original_weight.data,
              original_weight.num_elements() * DTypeSize(original_weight.dtype));
  if (!bias.empty()) std::copy(original_bias.begin(), original_bias.end(), bias.as<float>());
}

absl::Status Reader::MakeReplaceable(ModelWeights& weights) {
  const auto take = [&](TensorView& weight, const TensorView& bias,
                        std::vector<Replaceable>& into) -> absl::Status {
    Replaceable item{.bias = bias, .original_weight = weight};
    MEA_ASSIGN_OR_RETURN(
        Tensor copy, Tensor::AllocateHost({weight.shape.data(), static_cast<size_t>(weight.rank)},
                                          weight.dtype));
    item.weight = weight = copy.view();
    if (!bias.empty())
      item.original_bias.assign(bias.as<float>(), bias.as<float>() + bias.num_elements());
    item.Restore();
    weights.storage.push_back(std::move(copy));
    into.push_back(std::move(item));
    return absl::OkStatus();
  };
  for (LayerWeights& layer : weights.layers) {
    MEA_RETURN_IF_ERROR(take(layer.k_proj, layer.k_bias, keys_));
    MEA_RETURN_IF_ERROR(take(layer.v_proj, layer.v_bias, values_));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Reader>> Reader::Create(const Checkpoint& checkpoint,
                                                       int num_threads, bool replaceable) {
  std::unique_ptr<Reader> reader(new Reader(checkpoint));
  MEA_ASSIGN_OR_RETURN(reader->backend_, CreateCpuBackend({.num_threads = num_threads}));
  MEA_ASSIGN_OR_RETURN(ModelWeights weights, LoadWeights(checkpoint, {.prefault = false}));
  if (replaceable) {
    MEA_RETURN_IF_ERROR(reader->MakeReplaceable(weights));
  }
  MEA_ASSIGN_OR_RETURN(reader->model_,
                       Model::Create(checkpoint.config, std::move(weights), reader->backend_.get(),
                                     {.max_batch_tokens = kMaxBatchTokens,
                                      .max_num_seqs = kMaxNumSeqs,
                                      .max_logit_rows = kMaxNumSeqs,
                                      .page_size = kPageSize}));
  const KvLayout layout = reader->model_->MakeKvLayout(DType::kF32, kPageSize);
  const auto pages =
      static_cast<int>(kMaxNumSeqs * layout.PagesFor(WindowOf(checkpoint.config) + 1));
  MEA_ASSIGN_OR_RETURN(reader->kv_, KvCache::Create(*reader->backend_, layout, pages));
  reader->core_ = std::make_unique<EngineCore>(reader->model_.get(), reader->kv_.get(), kMaxNumSeqs,
                                               checkpoint.generation.eos_token_ids);
  return reader;
}

absl::StatusOr<double> Reader::Loss(std::span<const std::vector<int32_t>> documents,
                                    const TokensRead& progress) {
  TextScore total;
  const int64_t all_tokens = NumTokens(documents);
  int64_t read = 0;
  for (size_t first = 0; first < documents.size(); first += kDocumentsAtOnce) {
    const auto some =
        documents.subspan(first, std::min<size_t>(kDocumentsAtOnce, documents.size() - first));
    MEA_ASSIGN_OR_RETURN(const TextScore score, ScoreDocuments(*core_, some));
    total.nats += score.nats;
    total.num_tokens += score.num_tokens;
    read += NumTokens(some);
    if (!progress) continue;
    MEA_RETURN_IF_ERROR(progress(read, all_tokens));
  }
  if (total.num_tokens == 0) return absl::InvalidArgumentError("the text has no token to predict");
  return total.nats_per_token();
}

absl::StatusOr<LayerStatistics> Reader::Collect(std::span<const std::vector<int32_t>> documents,
                                                std::span<const int> layers,
                                                const TokensRead& progress) {
  std::map<int, StatisticsCollector> collectors;
  for (const int layer : layers) {
    MEA_ASSIGN_OR_RETURN(std::vector<double> q_norm, ReadQueryNorm(checkpoint_, layer));
    collectors.try_emplace(layer, checkpoint_.config, std::move(q_norm));
  }
  model_->set_on_projections([&](int layer, const QkvViews& qkv) {
    if (const auto it = collectors.find(layer); it != collectors.end()) it->second.Add(qkv);
  });
  const absl::StatusOr<double> loss = Loss(documents, progress);
  model_->set_on_projections({});
  MEA_RETURN_IF_ERROR(loss.status());
  LayerStatistics statistics;
  for (auto& [layer, collector] : collectors) {
    statistics.emplace(layer, std::move(collector).Take());
  }
  return statistics;
}

void Reader::ReplaceKeys(int layer, const Matrix& k, const Matrix& bias) {
  keys_[layer].Write(k, bias);
}
void Reader::ReplaceValues(int layer, const Matrix& v, const Matrix& bias) {
  values_[layer].Write(v, bias);
}
void Reader::Restore(int layer) {
  keys_[layer].Restore();
  values_[layer].Restore();
}

}  // namespace mea::convert
