#pragma once

#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"

namespace mea::vllm_engine {

struct TokenizerZip {
  std::string bytes;   // a ZIP archive
  std::string sha256;  // of them, in hexadecimal
};

// The files of a checkpoint that tokenize and render chats, for routers that have none of their
// own. Read when somebody asks; calls at the same time share one copy, and nobody keeps it.
// Thread-safe.
class TokenizerArchive {
 public:
  // `chat_template` takes the place of the checkpoint's, unless it is empty.
  TokenizerArchive(std::string model_dir, std::string chat_template)
      : model_dir_(std::move(model_dir)), chat_template_(std::move(chat_template)) {}

  // Reads files: not for a thread that must not wait. UNAVAILABLE if one cannot be read.
  absl::StatusOr<std::shared_ptr<const TokenizerZip>> Get() ABSL_LOCKS_EXCLUDED(mu_);

 private:
  const std::string model_dir_;
  const std::string chat_template_;
  absl::Mutex mu_;
  std::weak_ptr<const TokenizerZip> last_ ABSL_GUARDED_BY(mu_);
};

}  // namespace mea::vllm_engine
