#pragma once

#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"

namespace mea {

class Generation;

// The requests between their arrival and their end, by id. Thread-safe.
class InFlight {
 public:
  // False if the id is taken.
  [[nodiscard]] bool Insert(const std::string& id, std::weak_ptr<Generation> generation) {
    absl::MutexLock lock(&mu_);
    return generations_.try_emplace(id, std::move(generation)).second;
  }
  void Erase(const std::string& id) {
    absl::MutexLock lock(&mu_);
    generations_.erase(id);
  }
  // Null if there is none.
  std::shared_ptr<Generation> Find(const std::string& id) const {
    absl::MutexLock lock(&mu_);
    const auto it = generations_.find(id);
    return it == generations_.end() ? nullptr : it->second.lock();
  }
  // Waits until there is none: every request ends, so this does too.
  void AwaitNone() const {
    absl::MutexLock lock(&mu_);
    mu_.Await(absl::Condition(
        +[](const InFlight* self) { return self->generations_.empty(); }, this));
  }
  int size() const {
    absl::MutexLock lock(&mu_);
    return static_cast<int>(generations_.size());
  }

 private:
  mutable absl::Mutex mu_;
  absl::flat_hash_map<std::string, std::weak_ptr<Generation>> generations_ ABSL_GUARDED_BY(mu_);
};

}  // namespace mea
