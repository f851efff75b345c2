#include "engine/convert/judge.h"

#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/eval/divergence.h"
#include "engine/eval/kv_formats.h"
#include "kernels/status_macros.h"

namespace mea::convert {
namespace {

int64_t BytesPerToken(const ModelConfig& config, const auto& dtype) {
  return MakeKvLayout(config, dtype, {}).BytesPerToken();
}

// The results under their names in `work`.
class Kept {
 public:
  explicit Kept(WorkDir& work) : work_(work) {}

  bool Load(const std::string& name, double& value) const {
    const std::optional<double> known = work_.Measured(Name(name));
    if (known) value = *known;
    return known.has_value();
  }
  bool Load(CacheChoice& choice) const {
    return Load(choice.name + ", loss", choice.loss_increase) &&
           Load(choice.name + ", kl", choice.kl) && Load(choice.name + ", top1", choice.top1);
  }
  absl::Status Save(const std::string& name, double value) {
    return work_.SaveMeasured(Name(name), value);
  }
  absl::Status Save(const CacheChoice& choice) {
    MEA_RETURN_IF_ERROR(Save(choice.name + ", loss", choice.loss_increase));
    MEA_RETURN_IF_ERROR(Save(choice.name + ", kl", choice.kl));
    return Save(choice.name + ", top1", choice.top1);
  }

 private:
  static std::string Name(const std::string& name) { return "held-out: " + name; }
  WorkDir& work_;
};

}  // namespace

absl::StatusOr<Judgement> Judge(const Checkpoint& plain, const Checkpoint& converted,
                                const CalibrationText& text, int num_threads, WorkDir& work,
                                const TokensRead& progress) {
  Judgement judgement{.num_tokens = NumTokens(text.held_out), .is_apart = text.is_apart};
  judgement.choices.push_back(
      {.name = "converted", .bytes_per_token = BytesPerToken(converted.config, DType::kBf16)});
  const std::vector<KvFormat> formats = CompactKvFormats();
  for (const KvFormat& format : formats) {
    judgement.choices.push_back({.name = format.name + " cache of all heads",
                                 .bytes_per_token = BytesPerToken(plain.config, format.dtype)});
  }
  Kept kept(work);
  bool is_known = kept.Load("plain loss", judgement.plain_loss);
  for (CacheChoice& choice : judgement.choices) is_known = is_known && kept.Load(choice);
  if (is_known) return judgement;

  std::vector<std::unique_ptr<Reader>> readers;
  const auto open = [&](const Checkpoint& checkpoint, const auto& dtype) {
    MEA_ASSIGN_OR_RETURN(
        readers.emplace_back(),
        Reader::Create(checkpoint, {.num_threads = num_threads, .kv_dtype = dtype}));
    return absl::OkStatus();
  };
  MEA_RETURN_IF_ERROR(open(plain, DType::kF32));
  MEA_RETURN_IF_ERROR(open(converted, DType::kF32));
  for (const KvFormat& format : formats) MEA_RETURN_IF_ERROR(open(plain, format.dtype));
  MEA_ASSIGN_OR_RETURN(const std::vector<Divergence> found,
                       Compare(readers, text.held_out, num_threads, progress));
  judgement.plain_loss = found[0].loss;
  for (size_t i = 0; i < judgement.choices.size(); ++i) {
    CacheChoice& choice = judgement.choices[i];
    choice.loss_increase = found[i + 1].loss - found[0].loss;
    choice.kl = found[i + 1].kl;
    choice.top1 = found[i + 1].top1;
    MEA_RETURN_IF_ERROR(kept.Save(choice));
  }
  MEA_RETURN_IF_ERROR(kept.Save("plain loss", judgement.plain_loss));
  return judgement;
}

}  // namespace mea::convert
