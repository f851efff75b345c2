#include "server/vllm/subscribe_call.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "server/access/authorization.h"
#include "server/metadata.h"
#include "server/status.h"
#include "server/wire_message.h"

namespace mea::vllm_engine {
namespace {

namespace common = ::smg::grpc::common;

constexpr size_t kBlocksPerSnapshot = 4096;

}  // namespace

void SubscribeCall::Begin(const grpc::CallbackServerContext& context,
                          const grpc::ByteBuffer& message) {
  self_ = shared_from_this();
  common::SubscribeKvEventsRequest request;
  const std::string authorization(Authorization(context));
  absl::Status status = serving_.access->Check(authorization, Right::kControl);
  if (status.ok()) status = CheckMetadata(context);
  if (status.ok()) status = ParseMessage(message, request);
  if (status.ok()) status = serving_.readiness.CheckNotDraining();
  {
    absl::MutexLock lock(&mu_);
    authorization_ = authorization;
    last_ = request.start_sequence_number() == 0 ? 0 : request.start_sequence_number() - 1;
  }
  std::shared_ptr<void> watch;  // news may come before Subscribe returns
  if (status.ok()) {
    auto subscribed = serving_.kv_events.Subscribe([call = weak_from_this()] {
      if (const auto self = call.lock()) self->Wake();
    });
    status = subscribed.status();
    if (status.ok()) watch = *std::move(subscribed);
  }
  {
    absl::MutexLock lock(&mu_);
    if (!status.ok()) {
      End(status);
      return;
    }
    if (!ended_) watch_ = std::move(watch);
  }
  Wake();
}

void SubscribeCall::Wake() {
  if (woken_.exchange(true)) return;
  serving_.workers.PostOutput([self = shared_from_this()] {
    self->woken_ = false;  // before the look: news from here on posts again
    absl::MutexLock lock(&self->mu_);
    self->WriteNext();
  });
}

void SubscribeCall::OnWriteDone(bool ok) {
  {
    absl::MutexLock lock(&mu_);
    writing_ = false;
    if (!ok || cancelled_) {
      End(absl::CancelledError("cancelled by the client"));
      return;
    }
  }
  Wake();
}

void SubscribeCall::OnCancel() {
  absl::MutexLock lock(&mu_);
  cancelled_ = true;
  if (!writing_) End(absl::CancelledError("cancelled by the client"));
}

void SubscribeCall::End(const absl::Status& status) {
  if (std::exchange(ended_, true)) return;
  watch_.reset();
  Finish(ToGrpcStatus(status));
}

void SubscribeCall::WriteNext() {
  if (ended_ || writing_) return;
  if (serving_.kv_events.is_closed()) {
    End(absl::UnavailableError("the server is shutting down"));
    return;
  }
  // The key may have lost its right since: unlike a request, this does not end by itself.
  if (absl::Status status = serving_.access->Check(authorization_, Right::kControl); !status.ok()) {
    End(status);
    return;
  }
  const auto batch = Next();
  if (!batch) return;
  message_ = SerializeMessage(*batch);
  writing_ = true;
  StartWrite(&message_);
}

std::optional<common::KvEventBatch> SubscribeCall::Next() {
  if (state_) return NextPiece();
  auto news = serving_.kv_events.Next(last_);
  if (!news) return std::nullopt;
  if (auto* state = std::get_if<KvEvents::State>(&*news)) {
    state_ = std::move(*state);
    num_pieces_sent_ = 0;
    return NextPiece();
  }
  const KvEventBatch& batch = *std::get<std::shared_ptr<const KvEventBatch>>(*news);
  common::KvEventBatch to;
  to.set_sequence_number(batch.number);
  to.set_timestamp(batch.time_s);
  for (const KvEvent& event : batch.events) AppendEvent(event, to);
  return to;
}

common::KvEventBatch SubscribeCall::NextPiece() {
  const std::span<const std::shared_ptr<const KvBlock>> blocks = state_->blocks;
  // A batch brings no more blocks than a piece, so there have been at least as many batches.
  const size_t count =
      std::max<size_t>((blocks.size() + kBlocksPerSnapshot - 1) / kBlocksPerSnapshot, 1);
  const size_t i = num_pieces_sent_++;
  common::KvEventBatch to;
  to.set_sequence_number(state_->number - count + 1 + i);
  to.set_timestamp(state_->time_s);
  to.mutable_snapshot()->set_index(static_cast<uint32_t>(i));
  to.mutable_snapshot()->set_count(static_cast<uint32_t>(count));
  to.mutable_snapshot()->set_blocks(blocks.size());
  if (i == 0) AppendEvent(KvBlocksCleared{}, to);
  const size_t begin = i * kBlocksPerSnapshot;
  const size_t size = std::min(kBlocksPerSnapshot, blocks.size() - begin);
  for (const KvEvent& event : ToEvents(blocks.subspan(begin, size))) AppendEvent(event, to);
  if (num_pieces_sent_ == count) state_.reset();
  return to;
}

void SubscribeCall::AppendEvent(const KvEvent& event, common::KvEventBatch& to) {
  common::KvCacheEvent& out = *to.add_events();
  out.set_event_id(++num_events_);
  if (const auto* stored = std::get_if<KvBlocksStored>(&event)) {
    common::KvBlocksStored& list = *out.mutable_stored();
    const KvBlock& first = *stored->blocks.front();
    if (first.parent) list.set_parent_block_hash(*first.parent);
    if (!first.salt.empty()) list.set_cache_salt(first.salt);
    for (const auto& block : stored->blocks) {
      common::KvBlock& one = *list.add_blocks();
      one.set_block_hash(block->hash);
      one.mutable_token_ids()->Add(block->token_ids.begin(), block->token_ids.end());
      one.set_block_size(static_cast<int32_t>(block->token_ids.size()));
    }
  } else if (const auto* removed = std::get_if<KvBlocksRemoved>(&event)) {
    out.mutable_removed()->mutable_block_hashes()->Add(removed->hashes.begin(),
                                                       removed->hashes.end());
  } else {
    out.mutable_cleared();
  }
}

}  // namespace mea::vllm_engine
