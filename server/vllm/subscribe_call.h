#pragma once

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

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
  // Any thread, the engine's too, so without a lock: a text worker writes what there is.
  void Wake();
  void WriteNext() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void End(const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // The next message, if there is one.
  std::optional<::smg::grpc::common::KvEventBatch> Next() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  ::smg::grpc::common::KvEventBatch NextPiece() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void AppendEvent(const KvEvent& event, ::smg::grpc::common::KvEventBatch& to)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  Serving& serving_;
  std::shared_ptr<SubscribeCall> self_;  // what gRPC holds
  absl::Mutex mu_;
  std::shared_ptr<void> watch_ ABSL_GUARDED_BY(mu_);
  std::string authorization_ ABSL_GUARDED_BY(mu_);
  uint64_t last_ ABSL_GUARDED_BY(mu_) = 0;  // batch that is sent, or in state_
  uint64_t num_events_ ABSL_GUARDED_BY(mu_) = 0;
  std::optional<KvEvents::State> state_ ABSL_GUARDED_BY(mu_);  // whose pieces are being sent
  size_t num_pieces_sent_ ABSL_GUARDED_BY(mu_) = 0;            // of them
  grpc::ByteBuffer message_;                                   // owned by gRPC while writing_
  std::atomic<bool> woken_ = false;                            // a job of this call is posted
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  bool cancelled_ ABSL_GUARDED_BY(mu_) = false;
  bool ended_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace mea::vllm_engine
