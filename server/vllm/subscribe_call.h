#pragma once

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <deque>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "server/serving.h"
#include "smg/grpc/common/common.pb.h"

namespace mea::vllm_engine {

// VllmEngine.SubscribeKvEvents: what KvEvents says, until the client or the server leaves. Text
// workers write; a client that reads too slowly gets the state in place of what it missed. gRPC
// keeps the pointer until OnDone.
class SubscribeCall final : public grpc::ServerWriteReactor<grpc::ByteBuffer>,
                            public std::enable_shared_from_this<SubscribeCall> {
 public:
  explicit SubscribeCall(Serving& serving) : serving_(serving) {}

  void Begin(const grpc::CallbackServerContext& context, const grpc::ByteBuffer& message)
      ABSL_LOCKS_EXCLUDED(mu_);
  void OnWriteDone(bool ok) override ABSL_LOCKS_EXCLUDED(mu_);
  void OnCancel() override ABSL_LOCKS_EXCLUDED(mu_);
  void OnDone() override { self_.reset(); }

 private:
  // Any thread: a text worker writes what there is.
  void Wake() ABSL_LOCKS_EXCLUDED(mu_);
  void WriteNext() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void End(const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Appends the messages of news to pending_.
  void Append(const KvEvents::News& news) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void AppendEvent(const KvEvent& event, ::smg::grpc::common::KvEventBatch& to)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  Serving& serving_;
  std::shared_ptr<SubscribeCall> self_;  // what gRPC holds
  absl::Mutex mu_;
  std::shared_ptr<void> watch_ ABSL_GUARDED_BY(mu_);
  uint64_t last_ ABSL_GUARDED_BY(mu_) = 0;  // batch that is in pending_ or sent
  uint64_t num_events_ ABSL_GUARDED_BY(mu_) = 0;
  std::deque<grpc::ByteBuffer> pending_ ABSL_GUARDED_BY(mu_);  // of one batch or state
  grpc::ByteBuffer message_;                                   // owned by gRPC while writing_
  bool woken_ ABSL_GUARDED_BY(mu_) = false;                    // a job of this call is posted
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  bool cancelled_ ABSL_GUARDED_BY(mu_) = false;
  bool ended_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace mea::vllm_engine
