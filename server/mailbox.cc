#include "server/mailbox.h"

#include <iterator>
#include <utility>

namespace mea {
namespace {

// Upper bounds for protobuf: a varint; and a varint with a float, with their tags and length.
constexpr int64_t kTokenIdBytes = 5;
constexpr int64_t kLogprobBytes = 16;

template <typename T>
void Append(std::vector<T>& to, std::vector<T> from) {
  to.insert(to.end(), std::make_move_iterator(from.begin()), std::make_move_iterator(from.end()));
}

}  // namespace

int64_t OutputBytes(const DeltaOutput& delta) {
  int64_t bytes = std::ssize(delta.text) + std::ssize(delta.token_ids) * kTokenIdBytes;
  for (const PositionLogprob& position : delta.logprobs) {
    bytes += (1 + std::ssize(position.top)) * kLogprobBytes;
  }
  if (delta.reply) {
    bytes += std::ssize(delta.reply->content) + std::ssize(delta.reply->reasoning);
    for (const ToolCallDelta& call : delta.reply->tool_calls) {
      bytes += std::ssize(call.id) + std::ssize(call.name) + std::ssize(call.arguments);
    }
  }
  return bytes;
}

void Mailbox::Put(PromptOutput prompt) {
  absl::MutexLock lock(&mu_);
  outputs_.push_back(std::move(prompt));
}

bool Mailbox::Put(DeltaOutput delta) {
  absl::MutexLock lock(&mu_);
  const int64_t bytes = OutputBytes(delta);
  if (delta_bytes_ + bytes > max_bytes_) return false;
  delta_bytes_ += bytes;
  DeltaOutput* unread = nullptr;
  for (Output& output : outputs_) {
    auto* of_output = std::get_if<DeltaOutput>(&output);
    if (of_output != nullptr && of_output->index == delta.index) unread = of_output;
  }
  if (unread == nullptr) {
    outputs_.push_back(std::move(delta));
  } else {
    unread->text += delta.text;
    Append(unread->token_ids, std::move(delta.token_ids));
    Append(unread->logprobs, std::move(delta.logprobs));
    if (delta.reply && !unread->reply) unread->reply.emplace();
    if (delta.reply) unread->reply->Append(*std::move(delta.reply));
  }
  return true;
}

void Mailbox::Put(FinishOutput finish) {
  absl::MutexLock lock(&mu_);
  if (!finish.status.ok()) outputs_.clear();
  finished_ = finish.is_last;
  outputs_.push_back(std::move(finish));
}

std::optional<Output> Mailbox::Take() {
  absl::MutexLock lock(&mu_);
  if (outputs_.empty()) return std::nullopt;
  Output output = std::move(outputs_.front());
  outputs_.pop_front();
  if (const auto* delta = std::get_if<DeltaOutput>(&output)) delta_bytes_ -= OutputBytes(*delta);
  return output;
}

}  // namespace mea
