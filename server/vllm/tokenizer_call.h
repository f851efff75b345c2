#pragma once

#include <grpcpp/grpcpp.h>

#include <cstddef>
#include <memory>

#include "server/serving.h"
#include "server/vllm/tokenizer_archive.h"

namespace mea::vllm_engine {

// VllmEngine.GetTokenizer: a text worker reads the files, then the archive goes out in pieces. gRPC
// owns it until OnDone.
class TokenizerCall final : public grpc::ServerWriteReactor<grpc::ByteBuffer> {
 public:
  TokenizerCall(Serving& serving, TokenizerArchive& tokenizer)
      : serving_(serving), tokenizer_(tokenizer), call_(serving.open_calls.Hold()) {}

  void Begin(const grpc::CallbackServerContext& context);
  void OnWriteDone(bool ok) override;
  void OnDone() override { delete this; }

 private:
  void WriteNext();

  Serving& serving_;
  TokenizerArchive& tokenizer_;
  const std::shared_ptr<void> call_;
  std::shared_ptr<const TokenizerZip> archive_;
  size_t num_sent_ = 0;       // of its bytes
  grpc::ByteBuffer message_;  // owned by gRPC while it is written
};

}  // namespace mea::vllm_engine
