#include "server/library_log.h"

#include <google/protobuf/stubs/logging.h>
#include <grpc/support/log.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "engine/clock.h"
#include "server/stderr_writer.h"

namespace mea {
namespace {

constexpr int kMaxLines = 10;  // in a period
constexpr absl::Duration kPeriod = absl::Seconds(10);
constexpr absl::Duration kLastWordTimeout = absl::Seconds(1);

ABSL_CONST_INIT absl::Mutex current_mu(absl::kConstInit);
LibraryLog* current ABSL_GUARDED_BY(current_mu) = nullptr;
void (*assertion_handler)(const char* message) = nullptr;  // set before there are threads
thread_local ProtobufComplaint* complaint = nullptr;

void Pass(LogLevel level, std::string_view library, std::string_view message) {
  absl::MutexLock lock(&current_mu);
  if (current != nullptr) current->Write(level, library, message);
}

// Not queued: the process may end before the queue is written.
void WriteLastWord(std::string_view library, std::string_view message) {
  StderrWriter writer;
  writer.End(Now() + kLastWordTimeout);
  writer.Write(std::string(library) + ": " + std::string(message) + "\n");
}

// If a client does not trust us, has no certificate or does not use TLS, this server is not at
// fault.
bool IsOfHandshake(std::string_view message) { return message.starts_with("Handshake failed"); }

void OnGrpc(gpr_log_func_args* line) {
  const std::string_view message = line->message;
  if (message.starts_with("assertion failed")) {
    if (assertion_handler != nullptr) assertion_handler(line->message);
    return WriteLastWord("grpc", message);
  }
  LogLevel level = line->severity == GPR_LOG_SEVERITY_ERROR ? LogLevel::kWarning : LogLevel::kDebug;
  if (IsOfHandshake(message)) level = std::min(level, LogLevel::kInfo);
  Pass(level, "grpc", message);
}

}  // namespace

class ProtobufHandler {
 public:
  static void On(google::protobuf::LogLevel level, const char*, int, const std::string& message) {
    if (level == google::protobuf::LOGLEVEL_FATAL) return WriteLastWord("protobuf", message);
    if (complaint == nullptr) return Pass(LogLevel::kWarning, "protobuf", message);
    if (complaint->text_.empty()) complaint->text_ = message;
  }
};

void LibraryLog::Silence(void (*on_assertion)(const char* message)) {
  assertion_handler = on_assertion;
  gpr_set_log_function(OnGrpc);
  google::protobuf::SetLogHandler(ProtobufHandler::On);
}

LibraryLog::LibraryLog(Log& log) : log_(log) {
  absl::MutexLock lock(&current_mu);
  current = this;
}

LibraryLog::~LibraryLog() {
  absl::MutexLock lock(&current_mu);
  if (current == this) current = nullptr;
}

void LibraryLog::Write(LogLevel level, std::string_view library, std::string_view message) {
  if (!log_.enabled(level)) return;
  std::vector<LogField> fields = {{"library", std::string(library)},
                                  {"message", std::string(message)}};
  {
    absl::MutexLock lock(&mu_);
    const absl::Time now = Now();
    if (now >= period_end_) {
      period_end_ = now + kPeriod;
      lines_ = 0;
      if (left_out_ > 0) fields.push_back({"left_out", std::exchange(left_out_, 0)});
    }
    if (++lines_ > kMaxLines) {
      ++left_out_;
      return;
    }
  }
  log_.Write(level, "library", fields);
}

ProtobufComplaint::ProtobufComplaint() { complaint = this; }
ProtobufComplaint::~ProtobufComplaint() { complaint = nullptr; }

}  // namespace mea
