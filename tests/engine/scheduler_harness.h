#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/scheduler.h"
#include "kernels/backend.h"

namespace mea::testing {

// A scheduler over a cache of pages of 16 tokens, with the model replaced by arithmetic: a chunk
// that draws gets a token that follows from the one before, and a sequence that has drawn its
// max_tokens ends.
class SchedulerHarness {
 public:
  static constexpr int kPageSize = 16;

  // `windows` are those of the model's layers.
  SchedulerHarness(int num_pages, SchedulerLimits limits, bool prefix_cache = false,
                   const std::vector<int>& windows = {0})
      : backend_(CreateReferenceBackend()) {
    const KvSpec spec{.key_heads = 1, .value_heads = 1, .head_dim = 2, .dtype = DType::kF32};
    KvLayout layout{.layers = std::vector<KvSpec>(windows.size(), spec),
                    .kv_heads = 1,
                    .page_size = kPageSize,
                    .max_batch_tokens = limits.max_batch_tokens};
    layout.GroupByWindow(windows);
    kv_ = KvCache::Create(*backend_, layout, num_pages).value();
    if (prefix_cache) kv_->EnablePrefixCache();
    scheduler_ = std::make_unique<Scheduler>(limits, kv_.get());
  }

  Scheduler& scheduler() { return *scheduler_; }
  KvCache& kv() { return *kv_; }
  // In the order of their arrivals.
  const std::vector<Sequence*>& alive() const { return alive_; }

  Sequence* Add(Request request) { return AddAll(std::move(request), 1)[0]; }
  // `n` completions of one prompt.
  std::vector<Sequence*> AddAll(Request request, int n) {
    Scheduler::Queue sequences;
    std::vector<Sequence*> added;
    for (int i = 0; i < n; ++i) {
      sequences.push_back(std::make_unique<Sequence>(request, std::make_shared<NullSink>(),
                                                     kv_->NewPageTable(), num_arrivals_++, i));
      added.push_back(sequences.back().get());
    }
    alive_.insert(alive_.end(), added.begin(), added.end());
    std::unique_ptr<Sequence> first = std::move(sequences.front());
    sequences.erase(sequences.begin());
    scheduler_->Add(std::move(first), std::move(sequences));
    return added;
  }

  void Remove(Sequence* sequence) {
    MEA_CHECK(scheduler_->Remove(sequence) != nullptr);
    std::erase(alive_, sequence);
  }

  // What a step does with the schedule that Next gave.
  void Run(const Schedule& schedule) {
    std::vector<Sequence*> drawing;
    for (const ScheduledChunk& chunk : schedule) {
      if (chunk.draws) drawing.push_back(chunk.sequence);
    }
    scheduler_->Commit(schedule);
    for (Sequence* sequence : drawing) {
      sequence->tokens.push_back((sequence->tokens.back() * 31 + sequence->num_tokens()) & 0xffff);
      if (sequence->num_output() >= sequence->request.stopping.max_tokens) Remove(sequence);
    }
  }

 private:
  class NullSink final : public TokenSink {
    void OnToken(TokenEvent) override {}
    void OnFinish(FinishEvent) override {}
  };

  std::unique_ptr<Backend> backend_;
  std::unique_ptr<KvCache> kv_;
  std::unique_ptr<Scheduler> scheduler_;
  std::vector<Sequence*> alive_;
  int64_t num_arrivals_ = 0;
};

}  // namespace mea::testing
