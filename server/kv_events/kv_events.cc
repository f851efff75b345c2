#include "server/kv_events/kv_events.h"

#include <algorithm>
#include <cstring>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "engine/clock.h"
#include "server/access/api_key.h"

namespace mea {
namespace {

constexpr size_t kMaxChangesPerBatch = 4096;

double WallSeconds() { return absl::ToDoubleSeconds(ToWallClock(Now()) - absl::UnixEpoch()); }

// The beginning of a SHA-256: equal on all servers, and nobody can write a prompt that takes
// another's place.
int64_t ChainedHash(const KvBlock& block) {
  const int64_t parent = block.parent.value_or(-1);
  std::string text(reinterpret_cast<const char*>(&parent), sizeof(parent));
  text.append(reinterpret_cast<const char*>(block.token_ids.data()),
              block.token_ids.size() * sizeof(int32_t));
  if (!block.parent) text += block.salt;
  const Sha256 sha = HashOf(text);
  uint64_t hash = 0;
  std::memcpy(&hash, sha.data(), sizeof(hash));
  return static_cast<int64_t>(hash >> 1);
}

void AppendStored(std::shared_ptr<const KvBlock> block, std::vector<KvEvent>& events) {
  if (!events.empty()) {
    auto* stored = std::get_if<KvBlocksStored>(&events.back());
    if (stored != nullptr && block->parent == stored->blocks.back()->hash) {
      stored->blocks.push_back(std::move(block));
      return;
    }
  }
  events.emplace_back(KvBlocksStored{{std::move(block)}});
}

void AppendRemoved(int64_t hash, std::vector<KvEvent>& events) {
  if (events.empty() || !std::holds_alternative<KvBlocksRemoved>(events.back())) {
    events.emplace_back(KvBlocksRemoved{});
  }
  std::get<KvBlocksRemoved>(events.back()).hashes.push_back(hash);
}

}  // namespace

std::vector<KvEvent> ToEvents(std::span<const std::shared_ptr<const KvBlock>> blocks) {
  std::vector<KvEvent> events;
  for (const auto& block : blocks) AppendStored(block, events);
  return events;
}

KvEvents::~KvEvents() { Close(); }

absl::StatusOr<std::shared_ptr<void>> KvEvents::Subscribe(std::function<void()> on_news) {
  absl::MutexLock lock(&subscribe_mu_);
  std::erase_if(subscribers_, [](const auto& known) { return known.expired(); });
  if (subscribers_.size() >= kMaxSubscribers) {
    return absl::ResourceExhaustedError(absl::StrCat("there are ", subscribers_.size(),
                                                     " subscribers to KV events, the most is ",
                                                     kMaxSubscribers));
  }
  std::shared_ptr<void> watch = Watch(std::move(on_news));
  subscribers_.push_back(watch);
  return watch;
}

std::shared_ptr<void> KvEvents::Watch(std::function<void()> on_news) {
  auto watcher = std::make_shared<std::function<void()>>(std::move(on_news));
  absl::MutexLock observing(&observe_mu_);
  bool is_first = false;
  {
    absl::MutexLock lock(&mu_);
    std::erase_if(watchers_, [](const auto& known) { return known.expired(); });
    watchers_.push_back(watcher);
    is_first = !is_closed_ && !std::exchange(watches_engine_, true);
  }
  if (is_first) {
    engine_.ObservePrefixCache(
        [this](std::vector<PrefixEvent> changes) { Add(std::move(changes)); });
  }
  return watcher;
}

void KvEvents::Close() {
  {
    absl::MutexLock observing(&observe_mu_);
    bool watched_engine = false;
    {
      absl::MutexLock lock(&mu_);
      is_closed_ = true;
      watched_engine = std::exchange(watches_engine_, false);
    }
    if (watched_engine) engine_.ObservePrefixCache(nullptr);
  }
  TellWatchers();
}

bool KvEvents::is_closed() const {
  absl::MutexLock lock(&mu_);
  return is_closed_;
}

std::optional<KvEvents::News> KvEvents::Next(uint64_t& last) const {
  absl::MutexLock lock(&mu_);
  if (last == last_number_) return std::nullopt;
  const uint64_t first_kept = last_number_ + 1 - batches_.size();
  if (last > 0 && last < last_number_ && last + 1 >= first_kept) {
    ++last;
    return batches_[last - first_kept];
  }
  last = last_number_;
  if (last_number_ == 0) return std::nullopt;  // of another life, and this one has no news yet
  State state{.number = last_number_, .time_s = WallSeconds()};
  state.blocks.reserve(blocks_.size());
  for (const auto& [entry, block] : blocks_) state.blocks.push_back(block);
  return state;
}

void KvEvents::Add(std::vector<PrefixEvent> changes) {
  {
    absl::MutexLock lock(&mu_);
    for (size_t begin = 0; begin < changes.size(); begin += kMaxChangesPerBatch) {
      const size_t count = std::min(kMaxChangesPerBatch, changes.size() - begin);
      AddBatch(std::span(changes).subspan(begin, count));
    }
  }
  TellWatchers();
}

void KvEvents::AddBatch(std::span<PrefixEvent> changes) {
  auto batch = std::make_shared<KvEventBatch>();
  for (PrefixEvent& change : changes) {
    switch (change.kind) {
      case PrefixEvent::Kind::kStored:
        if (auto block = AddBlock(change)) {
          batch->num_tokens += std::ssize(block->token_ids);
          AppendStored(std::move(block), batch->events);
        }
        break;
      case PrefixEvent::Kind::kRemoved:
        if (const auto known = blocks_.find(change.entry); known != blocks_.end()) {
          AppendRemoved(known->second->hash, batch->events);
          blocks_.erase(known);
        }
        break;
      case PrefixEvent::Kind::kCleared:
        blocks_.clear();
        batch->events.emplace_back(KvBlocksCleared{});
        break;
    }
  }
  batch->number = ++last_number_;
  batch->time_s = WallSeconds();
  num_kept_tokens_ += batch->num_tokens;
  batches_.push_back(std::move(batch));
  while (batches_.size() > kKeptBatches ||
         (num_kept_tokens_ > kMaxKeptTokens && batches_.size() > 1)) {
    num_kept_tokens_ -= batches_.front()->num_tokens;
    batches_.pop_front();
  }
}

std::shared_ptr<const KvBlock> KvEvents::AddBlock(PrefixEvent& change) {
  auto block = std::make_shared<KvBlock>();
  block->token_ids = std::move(change.tokens);
  block->salt = std::move(change.salt);
  if (change.before != 0) {
    const auto parent = blocks_.find(change.before);
    if (parent == blocks_.end()) return nullptr;  // no prompt can reach it
    block->parent = parent->second->hash;
    block->salt = parent->second->salt;
  }
  block->hash = ChainedHash(*block);
  blocks_[change.entry] = block;
  return block;
}

void KvEvents::TellWatchers() {
  std::vector<std::shared_ptr<std::function<void()>>> watchers;
  {
    absl::MutexLock lock(&mu_);
    for (const auto& known : watchers_) {
      if (auto watcher = known.lock()) watchers.push_back(std::move(watcher));
    }
  }
  for (const auto& watcher : watchers) (*watcher)();
}

}  // namespace mea
