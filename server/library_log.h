#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "server/log.h"

namespace mea {

// What gRPC and protobuf would write to stderr by themselves becomes lines of a log: those of the
// last LibraryLog that was made. Without one they are dropped.
class LibraryLog {
 public:
  // Nothing is written to stderr from here on, and `on_assertion` hears what gRPC says before it
  // aborts. Before any thread that uses the libraries.
  static void Silence(void (*on_assertion)(const char* message) = nullptr);

  explicit LibraryLog(Log& log);
  ~LibraryLog();
  LibraryLog(const LibraryLog&) = delete;
  LibraryLog& operator=(const LibraryLog&) = delete;

  // Any thread. A flood of complaints is cut to a few lines and a number.
  void Write(LogLevel level, std::string_view library, std::string_view message);

 private:
  Log& log_;
  std::mutex mu_;
  absl::Time period_end_ ABSL_GUARDED_BY(mu_) = absl::InfinitePast();
  int lines_ ABSL_GUARDED_BY(mu_) = 0;  // in this period
  int64_t left_out_ ABSL_GUARDED_BY(mu_) = 0;
};

// Takes protobuf's complaints of this thread while it lives: they tell what is wrong with a
// message.
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
