#include "engine/eval/kv_sweep.h"

#include <algorithm>
#include <array>
#include <memory>
#include <optional>

#include "absl/strings/str_cat.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/engine_core.h"
#include "kernels/machine.h"
#include "kernels/status_macros.h"

namespace mea {
namespace {

constexpr int kPromptTokens = 64;
constexpr int kContinuations = 16;
constexpr int kContinuedTokens = 256;
constexpr std::array kHaystackTokens = {2048, 4096};
constexpr int kHaystacks = 2;  // of each length

// A checkpoint and what it makes of the text.
struct SweptModel {
  Checkpoint checkpoint;
  std::unique_ptr<Tokenizer> tokenizer;
  Documents documents;
};

absl::StatusOr<SweptModel> OpenModel(const std::filesystem::path& dir) {
  SweptModel model;
  MEA_ASSIGN_OR_RETURN(model.checkpoint, OpenCheckpoint(dir));
  MEA_ASSIGN_OR_RETURN(model.tokenizer, Tokenizer::Load((dir / "tokenizer.json").string()));
  return model;
}

absl::Status ReadText(const std::string& text, int window, SweptModel& model) {
  MEA_ASSIGN_OR_RETURN(
      model.documents,
      SplitDocuments(*model.tokenizer, text, model.checkpoint.generation.eos_token_ids, window));
  return CheckTokens(model.documents, model.checkpoint.config.vocab_size);
}

Documents PromptsOf(std::span<const Document> documents) {
  Documents prompts;
  for (const Document& document : documents) {
    if (std::ssize(prompts) == kContinuations) break;
    if (std::ssize(document) < kPromptTokens) continue;
    prompts.emplace_back(document.begin(), document.begin() + kPromptTokens);
  }
  return prompts;
}

// The text without what opens and ends its documents.
Document FillerOf(const SweptModel& model) {
  Document filler;
  std::vector<int32_t> special = model.tokenizer->Encode("");
  const std::vector<int32_t>& ends = model.checkpoint.generation.eos_token_ids;
  special.insert(special.end(), ends.begin(), ends.end());
  for (const Document& document : FirstTokens(model.documents, 2 * kHaystackTokens.back())) {
    std::ranges::copy_if(document, std::back_inserter(filler), [&](int32_t id) {
      return std::ranges::find(special, id) == special.end();
    });
  }
  return filler;
}

GreedyAgreement Agree(const Documents& expected, const Documents& found) {
  GreedyAgreement agreement{.continuations = static_cast<int>(expected.size())};
  for (size_t i = 0; i < expected.size(); ++i) {
    const auto differs = std::ranges::mismatch(expected[i], found[i]).in1;
    agreement.tokens = static_cast<int>(expected[i].size());
    agreement.equal_prefix += static_cast<double>(differs - expected[i].begin());
    agreement.equal += differs == expected[i].end() ? 1 : 0;
  }
  const auto count = static_cast<double>(std::max<size_t>(expected.size(), 1));
  agreement.equal_prefix /= count;
  agreement.equal /= count;
  return agreement;
}

class Sweep {
 public:
  explicit Sweep(const KvSweepOptions& options) : options_(options) {}

  absl::StatusOr<KvSweep> Run() {
    MEA_RETURN_IF_ERROR(Open());
    MEA_RETURN_IF_ERROR(ComparePredictions());
    MEA_RETURN_IF_ERROR(CompareContinuations());
    MEA_RETURN_IF_ERROR(FindNeedles());
    return std::move(sweep_);
  }

 private:
  const SweptModel& reference() const { return reference_ ? *reference_ : model_; }
  int max_context() const {
    return std::min(model_.checkpoint.config.max_position,
                    reference().checkpoint.config.max_position);
  }

  absl::Status Open() {
    MEA_ASSIGN_OR_RETURN(model_, OpenModel(options_.model));
    if (!options_.reference.empty()) {
      MEA_ASSIGN_OR_RETURN(reference_, OpenModel(options_.reference));
    }
    const int window = std::min(Reader::kBatchTokens, max_context() - 1);
    MEA_RETURN_IF_ERROR(ReadText(options_.text, window, model_));
    if (reference_) {
      MEA_RETURN_IF_ERROR(ReadText(options_.text, window, *reference_));
      if (reference_->documents != model_.documents ||
          reference_->checkpoint.config.vocab_size != model_.checkpoint.config.vocab_size) {
        return absl::InvalidArgumentError(absl::StrCat("--reference ", options_.reference.string(),
                                                       ": its vocabulary is not that of ",
                                                       options_.model.string()));
      }
      MEA_RETURN_IF_ERROR(AddRow(*reference_, {"bf16", DType::kBf16}));
      sweep_.rows.back().is_reference = true;
    }
    MEA_RETURN_IF_ERROR(AddRow(model_, {"bf16", DType::kBf16}));
    for (const KvFormat& format : options_.formats) {
      if (format.name != "bf16") MEA_RETURN_IF_ERROR(AddRow(model_, format));
    }
    return absl::OkStatus();
  }

  absl::Status AddRow(const SweptModel& model, const KvFormat& format) {
    MEA_ASSIGN_OR_RETURN(
        readers_.emplace_back(),
        Reader::Create(
            model.checkpoint,
            {.num_threads = options_.num_threads,
             .kv_dtype = format.dtype,
             .longest = std::min(kHaystackTokens.back(), model.checkpoint.config.max_position)}));
    formats_.push_back(format);
    const ModelConfig& config = model.checkpoint.config;
    const int64_t bytes = MakeKvLayout(config, format.dtype, {}).BytesPerToken();
    const int64_t whole = MakeKvLayout(config, DType::kBf16, {}).UncompressedBytesPerToken();
    sweep_.rows.push_back({.cache = format.name,
                           .bytes_per_token = bytes,
                           .share = static_cast<double>(bytes) / static_cast<double>(whole)});
    return absl::OkStatus();
  }

  absl::Status ComparePredictions() {
    const std::span<const Document> documents = FirstTokens(model_.documents, options_.tokens);
    const int num_threads = options_.num_threads > 0 ? options_.num_threads : UsableCpus();
    MEA_ASSIGN_OR_RETURN(
        const std::vector<Divergence> found,
        Compare(readers_, documents, num_threads,
                [this](int64_t done, int64_t total) { return Tell("comparing", done, total); }));
    for (size_t i = 0; i < found.size(); ++i) sweep_.rows[i].divergence = found[i];
    sweep_.tokens = NumTokens(documents) - std::ssize(documents);
    return absl::OkStatus();
  }

  absl::Status CompareContinuations() {
    const Documents prompts = PromptsOf(model_.documents);
    const int num_tokens = std::min(kContinuedTokens, max_context() - kPromptTokens);
    if (prompts.empty() || num_tokens < 1) return absl::OkStatus();
    Documents expected;
    for (size_t i = 0; i < readers_.size(); ++i) {
      Model& model = readers_[i]->model();
      const int page_size = model.limits().page_size;
      const KvLayout layout = model.MakeKvLayout(formats_[i].dtype, page_size);
      const int64_t pages = kContinuations * layout.PagesFor(kPromptTokens + num_tokens);
      MEA_ASSIGN_OR_RETURN(const auto kv,
                           KvCache::Create(model.backend(), layout, static_cast<int>(pages)));
      EngineCore core(&model, kv.get(), kContinuations, {});
      MEA_ASSIGN_OR_RETURN(const Documents found, ContinueGreedily(core, prompts, num_tokens));
      if (i == 0) expected = found;
      sweep_.rows[i].greedy = Agree(expected, found);
      MEA_RETURN_IF_ERROR(Tell("continuing", std::ssize(found) * static_cast<int64_t>(i + 1),
                               std::ssize(prompts) * std::ssize(readers_)));
    }
    return absl::OkStatus();
  }

  absl::Status FindNeedles() {
    const Document filler = FillerOf(model_);
    const int64_t total = std::ssize(readers_) * kHaystackTokens.size() * kHaystacks;
    int64_t done = 0;
    for (const int length : kHaystackTokens) {
      if (length > max_context()) continue;
      for (int seed = 0; seed < kHaystacks; ++seed) {
        const Haystack haystack = MakeHaystack(*model_.tokenizer, filler, length, seed);
        if (haystack.answers.empty()) continue;
        MEA_RETURN_IF_ERROR(
            CheckTokens(std::span(&haystack.tokens, 1), model_.checkpoint.config.vocab_size));
        for (size_t i = 0; i < readers_.size(); ++i) {
          std::vector<NeedleScore>& needles = sweep_.rows[i].needles;
          if (needles.empty() || needles.back().tokens != length) {
            needles.push_back({.tokens = length});
          }
          ScoreHaystack(*readers_[i], haystack, needles.back());
          MEA_RETURN_IF_ERROR(Tell("searching", ++done, total));
        }
      }
    }
    return absl::OkStatus();
  }

  absl::Status Tell(std::string_view stage, int64_t done, int64_t total) const {
    return options_.progress ? options_.progress(stage, done, total) : absl::OkStatus();
  }

  const KvSweepOptions& options_;
  SweptModel model_;
  std::optional<SweptModel> reference_;
  std::vector<std::unique_ptr<Reader>> readers_;  // of the rows
  std::vector<KvFormat> formats_;                 // of the rows
  KvSweep sweep_;
};

}  // namespace

absl::StatusOr<KvSweep> SweepKvFormats(const KvSweepOptions& options) {
  return Sweep(options).Run();
}

}  // namespace mea
