#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "engine/engine.h"

namespace mea {

// A full page of the prefix cache, as others name it.
struct KvBlock {
  int64_t hash = 0;  // of all tokens up to its end and of the salt; 63 bits, so every type holds it
  std::optional<int64_t> parent;  // the block before it; absent: it begins a prompt
  std::vector<int32_t> token_ids;
  std::string salt;
};
using KvBlocks = std::vector<std::shared_ptr<const KvBlock>>;

// Each of them follows the one before it.
struct KvBlocksStored {
  KvBlocks blocks;
};
struct KvBlocksRemoved {
  std::vector<int64_t> hashes;
};
struct KvBlocksCleared {};
using KvEvent = std::variant<KvBlocksStored, KvBlocksRemoved, KvBlocksCleared>;

// Blocks as the events that store them.
std::vector<KvEvent> ToEvents(std::span<const std::shared_ptr<const KvBlock>> blocks);

// The changes of one step of the engine.
struct KvEventBatch {
  uint64_t number = 0;  // from 1, without gaps
  double time_s = 0;    // since 1970
  std::vector<KvEvent> events;
  int64_t num_tokens = 0;  // of the blocks that it stores
};

// What the prefix cache holds, for those who route requests to it: numbered changes, of which the
// last kKeptBatches are kept, or those of the last kMaxKeptTokens, and the whole state for whoever
// has missed more. The engine's thread
// adds to it and never waits for a reader. Costs nothing until somebody watches. Thread-safe; the
// engine outlives it.
class KvEvents {
 public:
  static constexpr int kKeptBatches = 4096;
  static constexpr int64_t kMaxKeptTokens = 4 << 20;  // 16 MiB, of blocks that may be gone
  static constexpr size_t kMaxSubscribers = 64;

  explicit KvEvents(Engine& engine) : engine_(engine) {}
  ~KvEvents();

  // Calls `on_news` after each batch, on the engine's thread, for as long as the result is held and
  // perhaps once more; it must not block.
  [[nodiscard]] std::shared_ptr<void> Watch(std::function<void()> on_news)
      ABSL_LOCKS_EXCLUDED(observe_mu_, mu_);
  // The same for a client of ours. RESOURCE_EXHAUSTED if there are kMaxSubscribers.
  absl::StatusOr<std::shared_ptr<void>> Subscribe(std::function<void()> on_news)
      ABSL_LOCKS_EXCLUDED(subscribe_mu_);

  // Every block there is: what a reader that knows nothing starts with. In an order in which
  // parents come before children.
  struct State {
    uint64_t number = 0;  // of the last batch that it contains
    double time_s = 0;
    KvBlocks blocks;
  };
  using News = std::variant<std::shared_ptr<const KvEventBatch>, State>;
  // What follows the batch `last`: the next one, or the state where that is not kept any more, or
  // where `last` is 0 or has not been reached, so of an earlier life of the server. Nothing if
  // there is no news; else `last` is moved on.
  std::optional<News> Next(uint64_t& last) const ABSL_LOCKS_EXCLUDED(mu_);

  // The server is about to end: watchers are told, and should leave. The engine is not watched any
  // more.
  void Close() ABSL_LOCKS_EXCLUDED(observe_mu_, mu_);
  bool is_closed() const ABSL_LOCKS_EXCLUDED(mu_);

 private:
  void Add(std::vector<PrefixEvent> changes) ABSL_LOCKS_EXCLUDED(mu_);
  void AddBatch(std::span<PrefixEvent> changes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Null if its parent is gone.
  std::shared_ptr<const KvBlock> AddBlock(PrefixEvent& change) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void TellWatchers() ABSL_LOCKS_EXCLUDED(mu_);

  Engine& engine_;
  absl::Mutex subscribe_mu_;  // before the others
  std::vector<std::weak_ptr<void>> subscribers_ ABSL_GUARDED_BY(subscribe_mu_);
  // Held while the engine's observer is set: a Watch that meets Close must not set it again. Before
  // mu_; never taken by the engine's thread.
  absl::Mutex observe_mu_;
  mutable absl::Mutex mu_;
  bool is_closed_ ABSL_GUARDED_BY(mu_) = false;
  bool watches_engine_ ABSL_GUARDED_BY(mu_) = false;
  std::map<int64_t, std::shared_ptr<const KvBlock>> blocks_ ABSL_GUARDED_BY(mu_);  // by entry
  std::deque<std::shared_ptr<const KvEventBatch>> batches_ ABSL_GUARDED_BY(mu_);   // the last ones
  int64_t num_kept_tokens_ ABSL_GUARDED_BY(mu_) = 0;                               // of batches_
  uint64_t last_number_ ABSL_GUARDED_BY(mu_) = 0;
  std::vector<std::weak_ptr<std::function<void()>>> watchers_ ABSL_GUARDED_BY(mu_);
};

}  // namespace mea
