#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/time/time.h"
#include "server/limits.h"

namespace mea {

enum class LogLevel { kTrace, kDebug, kInfo, kWarning, kError, kOff };
enum class LogFormat { kText, kJson };

struct LogOptions {
  LogLevel level = LogLevel::kInfo;
  LogFormat format = LogFormat::kText;
  size_t max_queued_lines = kMaxLogLines;
};

// One fact about an event. A duration is written in milliseconds: its name ends in _ms.
struct LogField {
  std::string_view name;
  std::variant<std::string, int64_t, absl::Duration> value;
};

// One line per event, with the time in UTC and the level:
//   2026-11-21T08:31:53.123Z info request finished id=a status=OK total_ms=12.5
//   {"time":"2026-11-21T08:31:53.123Z","level":"info","event":"request finished","id":"a",...}
// Values come from clients: they are quoted, escaped to ASCII and cut to kMaxLogValueBytes. The
// log's own thread writes the lines. If it cannot keep up, or nobody reads, the oldest lines are
// dropped and counted in a line of their own, so logging never waits. Thread-safe.
class Log {
 public:
  // Gets one whole line, including its newline; only the log's thread calls it.
  using Writer = std::function<void(std::string_view line)>;

  // Without a writer: to stderr.
  explicit Log(const LogOptions& options, Writer writer = nullptr);
  // Writes the remaining lines; gives up after a second if nobody reads stderr.
  ~Log();

  bool enabled(LogLevel level) const { return level >= level_; }
  // `event` is a constant of ours, e.g. "request finished".
  void Write(LogLevel level, std::string_view event, const std::vector<LogField>& fields = {});
  // Lines that found no room, since the start.
  int64_t num_dropped() const;

 private:
  struct Queue;

  const LogLevel level_;
  const LogFormat format_;
  std::unique_ptr<Queue> queue_;  // null at kOff
};

}  // namespace mea
