#pragma once

#include <mutex>
#include <vector>

#include "absl/time/time.h"
#include "engine/engine.h"
#include "engine/sequence.h"
#include "kvcache/kv_layout.h"

namespace mea {

SequenceInfo InfoOf(const Sequence& sequence, bool is_running, const KvLayout& layout);

// The sequences in flight, for somebody who looks at them now and then. The engine thread makes a
// list only while somebody asks, and not after each step, so that looking costs it nothing that
// counts. Thread-safe.
class SequenceList {
 public:
  // Any thread. The newest list, and a note that somebody has asked.
  std::vector<SequenceInfo> Ask(absl::Time now);

  // Engine thread. Whether to publish a list; `is_idle`: nothing is in flight.
  bool IsWanted(bool is_idle, absl::Time now) const;
  void Publish(std::vector<SequenceInfo> sequences, absl::Time now);

 private:
  mutable std::mutex mutex_;
  // Guarded by mutex_:
  std::vector<SequenceInfo> sequences_;
  absl::Time published_ = absl::InfinitePast();
  absl::Time last_asked_ = absl::InfinitePast();
};

}  // namespace mea
