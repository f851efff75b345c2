#include "server/vllm/tokenizer_call.h"

#include "absl/strings/str_cat.h"
#include "server/access/authorization.h"
#include "server/limits.h"
#include "server/metadata.h"
#include "server/status.h"
#include "server/wire_message.h"
#include "smg/grpc/common/common.pb.h"

namespace mea::vllm_engine {
namespace {

constexpr size_t kPieceBytes = 64 << 10;

}  // namespace

void TokenizerCall::Begin(const grpc::CallbackServerContext& context) {
  absl::Status status = serving_.access->Check(Authorization(context), std::nullopt);
  if (status.ok()) status = CheckMetadata(context);
  if (status.ok()) status = serving_.readiness.CheckNotDraining();
  const auto job = [this] {
    auto archive = tokenizer_.Get();
    if (!archive.ok()) {
      Finish(ToGrpcStatus(archive.status()));
      return;
    }
    archive_ = *std::move(archive);
    WriteNext();
  };
  if (status.ok() && !serving_.workers.Post(job)) {
    status = ResourceExhausted(absl::StrCat("the queue of ", kMaxTextJobs, " texts is full"),
                               "TEXT_QUEUE_FULL", kRetryDelay);
  }
  if (!status.ok()) Finish(ToGrpcStatus(status));
}

void TokenizerCall::OnWriteDone(bool ok) {
  if (ok) {
    WriteNext();
  } else {
    Finish(grpc::Status::CANCELLED);
  }
}

void TokenizerCall::WriteNext() {
  ::smg::grpc::common::GetTokenizerChunk piece;
  piece.set_data(archive_->bytes.substr(num_sent_, kPieceBytes));
  num_sent_ += piece.data().size();
  const bool is_last = num_sent_ == archive_->bytes.size();
  if (is_last) piece.set_sha256(archive_->sha256);
  message_ = SerializeMessage(piece);
  if (is_last) {
    StartWriteAndFinish(&message_, grpc::WriteOptions(), grpc::Status::OK);
  } else {
    StartWrite(&message_);
  }
}

}  // namespace mea::vllm_engine
