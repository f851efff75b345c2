#include "tests/support/engine_harness.h"

#include <algorithm>
#include <random>

#include "kernels/check.h"

namespace mea::testing {

void RecordingSink::OnScheduled(absl::Time /*when*/) {
  MEA_CHECK(!scheduled && tokens.empty() && !finish.has_value());
  scheduled = true;
}

void RecordingSink::OnPromptLogprobs(std::vector<PromptLogprob> logprobs) {
  MEA_CHECK(scheduled && prompt_logprobs.empty() && tokens.empty());
  for (PromptLogprob& position : logprobs) {
    prompt_logprobs.push_back(position.logprob);
    prompt_tops.push_back(std::move(position.top));
  }
}

void RecordingSink::OnToken(TokenEvent event) {
  MEA_CHECK(scheduled && !finish.has_value());
  tokens.push_back(std::move(event));
}

void RecordingSink::OnFinish(FinishEvent event) {
  MEA_CHECK(!finish.has_value());
  finish = std::move(event);
}

std::vector<int32_t> RecordingSink::token_ids() const {
  std::vector<int32_t> ids;
  for (const TokenEvent& token : tokens) ids.push_back(token.token_id);
  return ids;
}

std::vector<float> RecordingSink::logprobs() const {
  std::vector<float> values;
  for (const TokenEvent& token : tokens) values.push_back(token.logprob.value());
  return values;
}

EngineHarness::EngineHarness(const RandomModelSpec& spec, const HarnessOptions& options)
    : launches_ahead_(options.launches_ahead) {
  std::vector<Backend*> backends = options.devices;
  if (options.device != nullptr) backends.push_back(options.device);
  for (int i = 0; i < options.num_stages && options.device == nullptr && options.devices.empty();
       ++i) {
    backends_.push_back(options.backend == "reference"
                            ? CreateReferenceBackend()
                            : CreateCpuBackend({.num_threads = options.num_threads}).value());
    backends.push_back(backends_.back().get());
  }
  const ModelConfig config = MakeConfig(spec);
  const auto num_stages = static_cast<int>(backends.size());
  std::vector<StagePlace> places;
  for (int i = 0; i < num_stages; ++i) {
    places.push_back(
        {.backend = backends[i],
         .layers = {config.num_layers * i / num_stages, config.num_layers * (i + 1) / num_stages}});
  }
  model_ = Model::Create(config, MakeWeights(spec, config), places,
                         {.max_batch_tokens = options.max_batch_tokens,
                          .max_num_seqs = options.max_num_seqs,
                          .max_logit_rows = options.max_logit_rows,
                          .page_size = options.page_size,
                          .kv_dtype = options.kv_dtype})
               .value();
  KvLayout layout = model_->MakeKvLayout(options.kv_dtype, options.page_size);
  if (options.keeps_all_pages) std::ranges::fill(layout.group_windows, 0);
  kv_ = KvCache::Create(backends, layout, options.num_pages * layout.num_groups()).value();
  if (options.prefix_cache) kv_->EnablePrefixCache();
  core_ = std::make_unique<EngineCore>(model_.get(), kv_.get(), options.max_num_seqs,
                                       options.eos_token_ids, options.target_itl);
}

std::vector<std::shared_ptr<RecordingSink>> EngineHarness::AddAll(Request request, int n) {
  MEA_CHECK(ValidateRequest(request, core_->request_limits()).ok());
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  for (int i = 0; i < n; ++i) sinks.push_back(std::make_shared<RecordingSink>());
  core_->Add(std::move(request),
             std::vector<std::shared_ptr<TokenSink>>(sinks.begin(), sinks.end()));
  return sinks;
}

void EngineHarness::Step() {
  if (!launches_ahead_) {
    core_->RunStep(absl::UnixEpoch());
  } else {
    const int before = core_->num_steps_in_flight();
    const bool launched = core_->can_launch() && core_->Launch(absl::UnixEpoch());
    if (launched && before > 0) ++num_launched_ahead_;
    core_->Deliver();
    if (core_->num_steps_in_flight() > 0 && !(launched && core_->can_launch())) core_->Collect();
  }
  core_->Deliver();
}

void EngineHarness::RunUntilIdle() {
  while (core_->has_work()) Step();
}

std::vector<std::shared_ptr<RecordingSink>> EngineHarness::Run(
    const std::vector<Request>& requests) {
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  for (const Request& request : requests) sinks.push_back(Add(request));
  RunUntilIdle();
  return sinks;
}

Request RandomRequest(uint64_t seed, int prompt_length, int max_tokens, int vocab_size) {
  std::mt19937_64 generator(seed);
  Request request{.id = "request-" + std::to_string(seed)};
  for (int i = 0; i < prompt_length; ++i) {
    request.prompt.push_back(static_cast<int32_t>(generator() % vocab_size));
  }
  request.sampling.temperature = 0;
  request.stopping.max_tokens = max_tokens;
  request.logprobs = 0;
  return request;
}

}  // namespace mea::testing
