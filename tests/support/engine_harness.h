#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/engine_core.h"
#include "tests/support/random_model.h"

namespace mea::testing {

// Keeps what a request was told, and checks the order of the events.
class RecordingSink final : public TokenSink {
 public:
  void OnScheduled(absl::Time when) override;
  void OnPromptLogprobs(std::vector<PromptLogprob> logprobs) override;
  void OnToken(TokenEvent event) override;
  void OnFinish(FinishEvent event) override;

  std::vector<int32_t> token_ids() const;
  std::vector<float> logprobs() const;

  bool scheduled = false;
  std::vector<float> prompt_logprobs;
  std::vector<std::vector<TokenLogprob>> prompt_tops;
  std::vector<TokenEvent> tokens;
  std::optional<FinishEvent> finish;
};

struct HarnessOptions {
  std::string backend = "cpu";    // or "reference"
  Backend* device = nullptr;      // instead of it; outlives the harness
  std::vector<Backend*> devices;  // likewise several, or
  int num_stages = 1;             // so many of `backend`; each has some of the layers
  int num_threads = 2;
  int page_size = 16;
  int num_pages = 256;
  int max_batch_tokens = 64;
  int max_num_seqs = 64;
  int max_logit_rows = 64;
  std::vector<int32_t> eos_token_ids;
  KvDTypes kv_dtype = DType::kF32;
  bool prefix_cache = false;
  bool keeps_all_pages = false;  // even those that windows have left
  bool launches_ahead = false;   // as EngineLoop does on a device
  std::optional<absl::Duration> target_itl = absl::InfiniteDuration();
};

// An engine core on a random model, stepped by hand.
class EngineHarness {
 public:
  EngineHarness(const RandomModelSpec& spec, const HarnessOptions& options);

  EngineCore& core() { return *core_; }
  KvCache& kv() { return *kv_; }
  Model& model() { return *model_; }
  int num_launched_ahead() const { return num_launched_ahead_; }  // steps, behind another

  std::shared_ptr<RecordingSink> Add(Request request) { return AddAll(std::move(request), 1)[0]; }
  // `n` completions of one prompt.
  std::vector<std::shared_ptr<RecordingSink>> AddAll(Request request, int n);
  void Step();
  void RunUntilIdle();

  // Adds the requests together, runs them to their ends, returns their sinks.
  std::vector<std::shared_ptr<RecordingSink>> Run(const std::vector<Request>& requests);

 private:
  std::vector<std::unique_ptr<Backend>> backends_;  // empty where the options brought some
  std::unique_ptr<Model> model_;
  std::unique_ptr<KvCache> kv_;
  std::unique_ptr<EngineCore> core_;
  const bool launches_ahead_;
  int num_launched_ahead_ = 0;
};

// A greedy request with a random prompt; the seed decides everything.
Request RandomRequest(uint64_t seed, int prompt_length, int max_tokens, int vocab_size);

}  // namespace mea::testing
