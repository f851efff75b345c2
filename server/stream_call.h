#pragma once

#include <optional>

#include "server/generate_call.h"

namespace mea {

// A call that answers with a stream of messages. Writes one at a time; meanwhile output gathers in
// the mailbox.
class StreamCall : public GenerateCall<grpc::ServerWriteReactor<grpc::ByteBuffer>> {
 public:
  using GenerateCall::GenerateCall;

  void OnOutput() override;
  void OnWriteDone(bool ok) override;

 protected:
  // Whether output is taken before it is complete.
  virtual bool sends_pieces() const { return true; }
  // The message of an output, which is no failure; nothing if it has none. The last finish has one.
  virtual std::optional<grpc::ByteBuffer> Message(Output output)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) = 0;

 private:
  void Abandon(const absl::Status& why) override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void WriteNext() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  grpc::ByteBuffer message_;  // owned by gRPC while writing_
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  // The reason, until the write is done.
  std::optional<absl::Status> abandoned_ ABSL_GUARDED_BY(mu_);
};

// A stream that ends because it brought no message.
class StreamWithoutMessage final : public grpc::ServerWriteReactor<grpc::ByteBuffer> {
 public:
  StreamWithoutMessage() { Finish(NoMessage()); }
  void OnDone() override { delete this; }
};

// How much output of a stream may wait for its client.
OutputBound StreamBound();
// How large an answer may be that is sent as a whole; `alternative` has no such bound.
OutputBound WholeBound(std::string_view alternative);

}  // namespace mea
