#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/engine.h"
#include "engine/grammar/grammar_compiler.h"
#include "engine/text/chat/chat_template.h"
#include "engine/text/reply/reply_format.h"
#include "engine/text/tokenizer.h"
#include "server/access/access.h"
#include "server/access/certificates.h"
#include "server/kv_events/zmq_publisher.h"
#include "server/log.h"
#include "server/metrics.h"
#include "server/traces/sampler.h"
#include "server/traces/span_exporter.h"

namespace mea {

struct ServerOptions {
  std::string listen = "127.0.0.1:50051";  // gRPC; empty = none; port 0 takes a free one
  std::string admin = "127.0.0.1:9090";    // HTTP: metrics, health, status; empty = none
  std::string http = "127.0.0.1:8000";     // HTTP: the OpenAI API; empty = none
  std::vector<std::string> http_cors;      // origins whose pages may call it; "*": all
  std::string model_name;
  std::shared_ptr<const ChatTemplate> chat;    // null: chats are not served
  ReplyFormat reply_format;                    // how the model writes tool calls and reasoning
  std::vector<int32_t> reply_markers;          // special tokens that the format needs, sorted
  std::shared_ptr<GrammarCompiler> grammars;   // null: structured output is not served
  std::shared_ptr<Certificates> certificates;  // TLS on all ports; null: none
  std::shared_ptr<Access> access = std::make_shared<Access>();  // who may do what
  bool open_metrics = false;                                    // /metrics needs no key
  absl::Duration file_watch_period = absl::Seconds(1);          // of certificates and keys
  // After this long without a sign of life from the engine: NOT_SERVING, until there is one.
  absl::Duration stall_timeout = absl::Seconds(5);
  // After this long without an answer on one of the server's own ports: NOT_SERVING, until it
  // answers.
  absl::Duration port_timeout = absl::Seconds(15);
  SpanExporter* spans = nullptr;  // of requests, outlives the server; null: none is traced
  TraceSampler trace_sampler;
  KvEventsOptions kv_events;
  absl::Duration stats_interval;  // between events "stats" in the log; 0: none
};

// An engine behind gRPC and two HTTP ports, from the first request to the last. Owns the text
// workers, the services and a thread that watches the engine's heartbeat; the caller owns the
// engine, the tokenizer, the metrics and the log, which must outlive it.
class Server {
 public:
  // What Start would say of the addresses: INVALID_ARGUMENT for a bad one, UNAVAILABLE for one that
  // cannot be had, after its flag, or where all are off. Takes none of them.
  static absl::Status CheckAddresses(const ServerOptions& options);
  static absl::StatusOr<std::unique_ptr<Server>> Start(ServerOptions options, Engine& engine,
                                                       const Tokenizer& tokenizer, Metrics& metrics,
                                                       Log& log);
  virtual ~Server() = default;  // cuts off what still runs

  // Becomes NOT_SERVING and refuses new work; running requests may finish until the deadline, the
  // rest end UNAVAILABLE. Blocks until the last call is over.
  virtual void Drain(absl::Time deadline) = 0;

  // Not OK if a port has been silent for long: the server cannot repair that itself.
  virtual absl::Status health() const = 0;

  virtual std::string listen_address() const = 0;  // with the real port
  virtual std::string admin_address() const = 0;   // empty where there is none
  virtual std::string http_address() const = 0;    // empty where there is none
  virtual std::string ready_line() const = 0;
};

}  // namespace mea
