#include "server/log.h"

#include <spdlog/async_logger.h>
#include <spdlog/details/thread_pool.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/base_sink.h>

#include <algorithm>
#include <mutex>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/clock.h"
#include "server/stderr_writer.h"

namespace mea {
namespace {

constexpr absl::Duration kLastLinesTimeout = absl::Seconds(1);
constexpr char kTextPattern[] = "%Y-%m-%dT%H:%M:%S.%eZ %l %v";
constexpr char kJsonPattern[] = R"({"time":"%Y-%m-%dT%H:%M:%S.%eZ","level":"%l",%v})";

const char* PatternOf(LogFormat format) {
  return format == LogFormat::kJson ? kJsonPattern : kTextPattern;
}

spdlog::level::level_enum ToSpdlog(LogLevel level) {
  switch (level) {
    case LogLevel::kTrace:
      return spdlog::level::trace;
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
    case LogLevel::kOff:
      return spdlog::level::off;
  }
  return spdlog::level::off;
}

// A JSON string in ASCII, so that no value can end its line or look like another field.
std::string Quoted(std::string_view text) {
  const std::string cut(text.substr(0, kMaxLogValueBytes));
  return nlohmann::json(cut).dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
}

bool IsPlain(std::string_view text) {
  const auto plain = [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) ||
           std::string_view("-_.:/@+").find(c) != std::string_view::npos;
  };
  return !text.empty() && text.size() <= kMaxLogValueBytes &&
         std::all_of(text.begin(), text.end(), plain);
}

std::string ValueOf(const LogField& field, LogFormat format) {
  if (const auto* text = std::get_if<std::string>(&field.value)) {
    return format == LogFormat::kText && IsPlain(*text) ? *text : Quoted(*text);
  }
  if (const auto* number = std::get_if<int64_t>(&field.value)) return std::to_string(*number);
  const absl::Duration duration = std::get<absl::Duration>(field.value);
  if (duration == absl::InfiniteDuration()) return "null";  // JSON has no such number
  return absl::StrFormat("%.1f", absl::ToDoubleMilliseconds(duration));
}

std::string MessageOf(std::string_view event, const std::vector<LogField>& fields,
                      LogFormat format) {
  std::string message(event);
  if (format == LogFormat::kJson) message = absl::StrCat("\"event\":\"", message, "\"");
  for (const LogField& field : fields) {
    const std::string name(field.name);
    if (format == LogFormat::kJson) {
      absl::StrAppend(&message, ",\"", name, "\":", ValueOf(field, format));
    } else {
      absl::StrAppend(&message, " ", name, "=", ValueOf(field, format));
    }
  }
  return message;
}

// Passes lines to the writer, and reports how many the queue has dropped since the last line.
class WriterSink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  WriterSink(LogFormat format, Log::Writer writer)
      : base_sink(std::make_unique<spdlog::pattern_formatter>(
            PatternOf(format), spdlog::pattern_time_type::utc, "\n")),
        format_(format),
        writer_(std::move(writer)) {}

  void set_pool(spdlog::details::thread_pool* pool) { pool_ = pool; }

 protected:
  void sink_it_(const spdlog::details::log_msg& line) override {
    const auto dropped = static_cast<int64_t>(pool_->overrun_counter());
    if (dropped > dropped_) {
      const std::string message =
          MessageOf("log lines dropped", {{"count", dropped - dropped_}}, format_);
      dropped_ = dropped;
      Pass({line.time, {}, {}, spdlog::level::warn, message});
    }
    Pass(line);
  }
  void flush_() override {}

 private:
  void Pass(const spdlog::details::log_msg& line) {
    spdlog::memory_buf_t text;
    formatter_->format(line, text);
    writer_({text.data(), text.size()});
  }

  const LogFormat format_;
  const Log::Writer writer_;
  spdlog::details::thread_pool* pool_ = nullptr;  // outlives all lines
  int64_t dropped_ = 0;
};

}  // namespace

struct Log::Queue {
  Queue(const LogOptions& options, Writer writer)
      : pool(std::make_shared<spdlog::details::thread_pool>(options.max_queued_lines, 1)) {
    if (!writer) writer = [this](std::string_view line) { to_stderr.Write(line); };
    auto sink = std::make_shared<WriterSink>(options.format, std::move(writer));
    sink->set_pool(pool.get());
    logger = std::make_shared<spdlog::async_logger>("mea", std::move(sink), pool,
                                                    spdlog::async_overflow_policy::overrun_oldest);
    logger->set_level(ToSpdlog(options.level));
  }

  ~Queue() { to_stderr.End(Now() + kLastLinesTimeout); }

  StderrWriter to_stderr;  // outlives the pool's thread
  // Shared pointers because spdlog needs them: a logger holds a weak pointer to its pool, and a
  // waiting line one to its logger.
  std::shared_ptr<spdlog::details::thread_pool> pool;
  std::shared_ptr<spdlog::async_logger> logger;
};

Log::Log(const LogOptions& options, Writer writer)
    : level_(options.level), format_(options.format) {
  if (level_ != LogLevel::kOff) queue_ = std::make_unique<Queue>(options, std::move(writer));
}

Log::~Log() = default;

int64_t Log::num_dropped() const {
  return queue_ ? static_cast<int64_t>(queue_->pool->overrun_counter()) : 0;
}

void Log::Write(LogLevel level, std::string_view event, const std::vector<LogField>& fields) {
  if (!enabled(level) || !queue_) return;
  const std::string message = MessageOf(event, fields, format_);
  queue_->logger->log(ToSpdlog(level), spdlog::string_view_t(message.data(), message.size()));
}

}  // namespace mea
