#include "engine/sequence_list.h"

#include <utility>

namespace mea {
namespace {

constexpr absl::Duration kLeastAge = absl::Milliseconds(100);
// If nobody has asked for this long, no more lists are made.
constexpr absl::Duration kAskedLately = absl::Seconds(5);

}  // namespace

SequenceInfo InfoOf(const Sequence& sequence, bool is_running, const KvLayout& layout) {
  const int64_t pages = sequence.pages.num_pages();
  return {.request_id = sequence.request.id,
          .completion = sequence.completion,
          .is_running = is_running,
          .prompt_tokens = sequence.prompt_length(),
          .output_tokens = sequence.num_output(),
          .kv_bytes = pages * layout.PageBytes(),
          .kv_bytes_uncompressed = pages * layout.UncompressedPageBytes()};
}

std::vector<SequenceInfo> SequenceList::Ask(absl::Time now) {
  std::lock_guard lock(mutex_);
  const bool is_kept = now - last_asked_ <= kAskedLately;
  last_asked_ = now;
  // A list that nobody has kept up to date says what was long ago.
  return is_kept ? sequences_ : std::vector<SequenceInfo>{};
}

bool SequenceList::IsWanted(bool is_idle, absl::Time now) const {
  std::lock_guard lock(mutex_);
  if (now - last_asked_ > kAskedLately) return false;
  return is_idle ? !sequences_.empty() : now - published_ >= kLeastAge;
}

void SequenceList::Publish(std::vector<SequenceInfo> sequences, absl::Time now) {
  std::lock_guard lock(mutex_);
  sequences_ = std::move(sequences);
  published_ = now;
}

}  // namespace mea
