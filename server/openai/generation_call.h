#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "engine/clock.h"
#include "server/generation.h"
#include "server/http/http_server.h"
#include "server/openai/parsed_request.h"
#include "server/serving.h"
#include "server/trace_context.h"

namespace mea::openai {

// One POST that generates: reads the body, owns a Generation for each of its prompts, and writes
// their output as one answer. A stream begins with its first output, so an earlier failure has the
// right HTTP status. Held by the HTTP server until the answer is over, and by the current text
// worker.
class GenerationCall final : public HttpCall, public std::enable_shared_from_this<GenerationCall> {
 public:
  using Reader = absl::StatusOr<ParsedRequest> (*)(const Json&, const std::string& id,
                                                   const Serving&);

  // `id_prefix` is the kind's: "chatcmpl-".
  GenerationCall(Serving& serving, std::shared_ptr<HttpExchange> exchange, Reader read,
                 const std::string& id_prefix);

  // Called on the HTTP server's thread; never blocks.
  void Begin();
  void OnWritten() override ABSL_LOCKS_EXCLUDED(mu_);
  void OnGone() override ABSL_LOCKS_EXCLUDED(mu_);

 private:
  // Tells the call which of its prompts has output.
  class PromptListener;
  using Generations = std::vector<std::shared_ptr<Generation>>;

  void ReadAndStart() ABSL_LOCKS_EXCLUDED(mu_);
  absl::Status Start(const TextLease& text) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Fails, and is logged as a refused request.
  void Refuse(const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void OnOutput(int prompt) ABSL_LOCKS_EXCLUDED(mu_);
  // The prompts that still run although the answer has failed; to be cancelled without the lock.
  Generations LeftRunning() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  static void CancelAll(const Generations& generations);
  // Moves output from the mailboxes of `ready_` to the answer, and from there to the client.
  void Pump() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status Drain(int prompt) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void WriteText(std::string text) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Fail(const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Count(absl::StatusCode code, const std::string& finish_reason)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  OutputBound Bound() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  TraceContext Trace() const;
  std::string Label() const;
  std::vector<std::pair<std::string, std::string>> Headers() const;

  Serving& serving_;
  const std::shared_ptr<HttpExchange> exchange_;
  const Reader read_;
  const std::string id_;
  const absl::Time arrival_ = Now();
  TextLease text_;  // of the body, until it is read

  absl::Mutex mu_;
  std::shared_ptr<KeyCall> key_call_ ABSL_GUARDED_BY(mu_);  // until its prompts have it
  ParsedRequest parsed_ ABSL_GUARDED_BY(mu_);
  std::vector<std::shared_ptr<PromptListener>> listeners_ ABSL_GUARDED_BY(mu_);  // by prompt
  Generations generations_ ABSL_GUARDED_BY(mu_);                                 // by prompt
  std::vector<int> ready_ ABSL_GUARDED_BY(mu_);  // prompts whose mailboxes hold something new
  int num_finished_ ABSL_GUARDED_BY(mu_) = 0;    // prompts
  std::string finish_reason_ ABSL_GUARDED_BY(mu_);
  bool begun_ ABSL_GUARDED_BY(mu_) = false;    // the head of a stream is out
  bool writing_ ABSL_GUARDED_BY(mu_) = false;  // until OnWritten
  bool ended_ ABSL_GUARDED_BY(mu_) = false;    // the answer is complete, or cannot be
};

}  // namespace mea::openai
