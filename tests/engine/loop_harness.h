#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "engine/engine_loop.h"
#include "tests/support/engine_harness.h"
#include "tests/support/op_observers.h"

namespace mea::testing {

// A sink that can be waited for from another thread. Not absl::Notification: ThreadSanitizer does
// not see what happens inside libabsl.
class WaitableSink final : public TokenSink {
 public:
  void OnToken(TokenEvent event) override {
    std::lock_guard lock(mutex_);
    tokens_.push_back(event.token_id);
    changed_.notify_all();
  }
  void OnFinish(FinishEvent event) override {
    std::lock_guard lock(mutex_);
    finish_ = std::move(event);
    changed_.notify_all();
  }
  void WaitForToken() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return !tokens_.empty(); });
  }
  const FinishEvent& Wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return finish_.has_value(); });
    return *finish_;
  }
  const std::vector<int32_t>& tokens() const { return tokens_; }  // after Wait

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<int32_t> tokens_;
  std::optional<FinishEvent> finish_;
};

inline constexpr int kVocab = 61;

inline std::unique_ptr<EngineLoop> MakeLoopOn(std::unique_ptr<Backend> backend,
                                              EngineOptions options = {}, int num_pages = 256,
                                              StepObserver observer = nullptr) {
  const RandomModelSpec spec{.max_position = 4096};
  EngineParts parts;
  options.max_batch_tokens = 64;
  if (options.max_num_seqs == 0) options.max_num_seqs = 64;
  parts.options = options;
  parts.backends.push_back(std::move(backend));
  const ModelConfig config = MakeConfig(spec);
  parts.model = Model::Create(config, MakeWeights(spec, config), parts.backends[0].get(),
                              {.max_batch_tokens = 64, .max_logit_rows = options.max_num_seqs})
                    .value();
  parts.kv =
      KvCache::Create(parts.model->backend(), parts.model->MakeKvLayout(DType::kF32, 16), num_pages)
          .value();
  if (options.prefix_cache) parts.kv->EnablePrefixCache();
  return std::make_unique<EngineLoop>(std::move(parts), std::move(observer));
}

inline std::unique_ptr<EngineLoop> MakeLoop(EngineOptions options = {}, int num_pages = 256,
                                            std::function<void()> before_forward = nullptr) {
  std::unique_ptr<Backend> backend = CreateCpuBackend({.num_threads = 1}).value();
  if (before_forward != nullptr) {
    backend->set_observer(std::make_unique<BeforeForward>(std::move(before_forward)));
  }
  return MakeLoopOn(std::move(backend), std::move(options), num_pages);
}

}  // namespace mea::testing
