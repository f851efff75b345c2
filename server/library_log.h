#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "server/log.h"

namespace mea {

// Turns what gRPC and protobuf would write to stderr into lines of the log of the newest
// LibraryLog. Without one they are dropped.
class LibraryLog {
 public:
  // From here on they write nothing to stderr, and `on_assertion` gets gRPC's message before it
  // aborts. Call it before any thread uses the libraries.
  static void Silence(void (*on_assertion)(const char* message) = nullptr);

  explicit LibraryLog(Log& log);
  ~LibraryLog();
  LibraryLog(const LibraryLog&) = delete;
  LibraryLog& operator=(const LibraryLog&) = delete;

  // Any thread. A flood of messages is cut to a few lines and a number.
  void Write(LogLevel level, std::string_view library, std::string_view message);

 private:
  Log& log_;
  absl::Mutex mu_;
  absl::Time period_end_ ABSL_GUARDED_BY(mu_) = absl::InfinitePast();
  int lines_ ABSL_GUARDED_BY(mu_) = 0;  // in this period
  int64_t left_out_ ABSL_GUARDED_BY(mu_) = 0;
};

// Captures protobuf's messages on this thread while it lives: they say what is wrong with a
// request.
class ProtobufComplaint {
 public:
  ProtobufComplaint();
  ~ProtobufComplaint();
  const std::string& text() const { return text_; }  // the first; empty without any

 private:
  friend class ProtobufHandler;
  std::string text_;
};

}  // namespace mea
