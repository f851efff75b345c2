#include "server/server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>

#include <algorithm>
#include <optional>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/clock.h"
#include "kernels/status_macros.h"
#include "server/access/file_watch.h"
#include "server/access/grpc_credentials.h"
#include "server/address.h"
#include "server/build_info.h"
#include "server/descriptors.h"
#include "server/grpc_options.h"
#include "server/grpc_port.h"
#include "server/http/http_server.h"
#include "server/http_guard.h"
#include "server/library_log.h"
#include "server/limits.h"
#include "server/listen_flags.h"
#include "server/memory_trim.h"
#include "server/notification.h"
#include "server/openai/error.h"
#include "server/openai/routes.h"
#include "server/page/page.h"
#include "server/port_watch.h"
#include "server/ready_line.h"
#include "server/reset_watch.h"
#include "server/service_control.h"
#include "server/service_inference.h"
#include "server/stats_log.h"
#include "server/vllm/service.h"

namespace mea {
namespace {

constexpr absl::Duration kWatchPeriod = absl::Milliseconds(250);

// A page that is rendered again for each request.
HttpServer::Route Page(std::string path, std::function<HttpAnswer()> page) {
  return {"GET", std::move(path), [page = std::move(page)](std::shared_ptr<HttpExchange> exchange) {
            HttpAnswer answer = page();
            answer.headers.emplace_back("Cache-Control", "no-store");
            exchange->Send(std::move(answer));
            return nullptr;
          }};
}

class GrpcServer final : public Server {
 public:
  GrpcServer(ServerOptions options, Engine& engine, const Tokenizer& tokenizer, Metrics& metrics,
             Log& log)
      : options_(std::move(options)),
        serving_{options_.model_name,
                 engine,
                 tokenizer,
                 metrics,
                 log,
                 workers_,
                 compilers_,
                 options_.chat.get(),
                 options_.reply_format,
                 options_.reply_markers,
                 options_.grammars.get(),
                 options_.access,
                 options_.spans,
                 options_.trace_sampler} {}
  ~GrpcServer() override;

  absl::Status Listen();
  void Drain(absl::Time deadline) override;
  absl::Status health() const override;

  std::string listen_address() const override { return listen_address_; }
  std::string admin_address() const override { return admin_ ? admin_->address() : ""; }
  std::string http_address() const override { return http_ ? http_->address() : ""; }
  std::string ready_line() const override {
    return ReadyLine(serving_, listen_address(), admin_address(), http_address(),
                     options_.certificates != nullptr);
  }

 private:
  absl::Status ListenAdmin();
  absl::Status ListenHttp();
  absl::Status ListenGrpc();
  absl::Status BuildGrpc();
  void ObserveState();
  void Serve();
  HttpOptions OptionsOfHttp(const std::string& listen, int max_connections) const;
  void Warn(std::string_view port, std::string_view message) const;
  absl::Status PublishKvEvents();
  absl::Status WatchPorts();
  HttpAnswer Health() const;
  void LogState(ServingState state);
  void WatchHeartbeat();
  void ShutDown(absl::Time deadline);

  const ServerOptions options_;
  Serving serving_;
  LoadHistory history_;
  LibraryLog library_log_{serving_.log};
  ConnectionLimits max_connections_;
  // Their jobs use serving_, so they end first.
  TextWorkers workers_{kNumTextWorkers, kMaxTextJobs, kNumOutputWorkers};
  TextWorkers compilers_{kNumGrammarCompilers, kMaxGrammarJobs};
  InferenceService inference_{serving_};
  ControlService control_{serving_};
  vllm_engine::VllmEngineService vllm_engine_{serving_};
  const std::shared_ptr<grpc::ServerCredentials> credentials_ =
      options_.certificates ? GrpcCredentials(options_.certificates)
                            : grpc::InsecureServerCredentials();
  std::unique_ptr<GrpcPort> grpc_port_;  // hands connections to grpc_
  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> grpc_acceptor_;  // until Serve
  std::unique_ptr<grpc::Server> grpc_;
  std::string listen_address_;
  ServingState logged_state_ = ServingState::kServing;  // under the lock of Readiness
  std::unique_ptr<HttpServer> admin_;
  std::unique_ptr<HttpServer> http_;
  std::unique_ptr<ZmqPublisher> kv_publisher_;
  std::unique_ptr<PortWatch> port_watch_;
  Notification stop_watching_;
  std::thread watcher_;
  MemoryTrim memory_trim_;  // used by the watcher, like the next one
  StatsLog stats_log_{serving_.engine, serving_.log, options_.stats_interval, Now()};
  std::optional<FileWatch> file_watch_;
};

absl::Status GrpcServer::Listen() {
  MEA_ASSIGN_OR_RETURN(max_connections_, ConnectionLimitsOf(MaxDescriptors()));
  MEA_RETURN_IF_ERROR(CheckAddresses(options_));
  MEA_RETURN_IF_ERROR(ListenAdmin());
  MEA_RETURN_IF_ERROR(ListenHttp());
  MEA_RETURN_IF_ERROR(ListenGrpc());
  MEA_RETURN_IF_ERROR(BuildGrpc());
  MEA_RETURN_IF_ERROR(PublishKvEvents());
  MEA_RETURN_IF_ERROR(WatchPorts());
  Serve();
  file_watch_.emplace(options_.certificates, options_.access, serving_.log,
                      options_.file_watch_period);
  serving_.log.Write(LogLevel::kInfo, "ready",
                     {{"model", serving_.model_name},
                      {"listen", listen_address_},
                      {"admin", admin_address()},
                      {"http", http_address()},
                      {"version", Version()},
                      {"max_context", serving_.engine.max_context()},
                      {"max_open_files", MaxDescriptors()},
                      {"max_connections", max_connections_.grpc},
                      {"kv_cache_bytes", serving_.engine.memory_plan().kv_cache_bytes}});
  return absl::OkStatus();
}

// No port answers before all of them listen: whoever hears that the server is ready reaches each,
// and if one cannot be bound, nobody has been served.
void GrpcServer::Serve() {
  ObserveState();
  if (grpc_) grpc_port_->Start(std::move(grpc_acceptor_));
  if (http_) http_->Serve();
  if (admin_) admin_->Serve();
  watcher_ = std::thread([this] { WatchHeartbeat(); });
}

absl::Status GrpcServer::ListenGrpc() {
  if (options_.listen.empty()) return absl::OkStatus();
  absl::StatusOr<Address> address = ParseAddress(options_.listen);
  if (!address.ok()) return OfFlag(kListenFlag, address.status());
  GrpcPortOptions port_options{.max_connections = max_connections_.grpc};
  port_options.warn = [this](std::string_view message) { Warn("grpc", message); };
  auto port = GrpcPort::Listen(*address, std::move(port_options));
  if (!port.ok()) return OfFlag(kListenFlag, port.status());
  grpc_port_ = *std::move(port);
  listen_address_ = address->ToString();
  return absl::OkStatus();
}

absl::Status GrpcServer::BuildGrpc() {
  if (!grpc_port_) return absl::OkStatus();
  serving_.resets.OnTooMany([this](const std::string& peer) { grpc_port_->Cut(peer); });
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ServerBuilder builder;
  SetGrpcOptions(builder);
  std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>> watches;
  watches.push_back(WatchResets(serving_.resets));
  builder.experimental().SetInterceptorCreators(std::move(watches));
  grpc_acceptor_ = builder.experimental().AddExternalConnectionAcceptor(
      grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD, credentials_);
  builder.RegisterService(&inference_);
  builder.RegisterService(&control_);
  builder.RegisterService(&vllm_engine_);
  grpc_ = builder.BuildAndStart();
  if (grpc_) return absl::OkStatus();
  return OfFlag(kListenFlag, absl::UnavailableError(options_.listen + ": cannot be served"));
}

void GrpcServer::ObserveState() {
  auto* const health = grpc_ ? grpc_->GetHealthCheckService() : nullptr;
  serving_.readiness.Observe([this, health](ServingState state) {
    LogState(state);
    if (health == nullptr) return;
    const bool serving = state == ServingState::kServing;
    health->SetServingStatus(v1::Inference::service_full_name(), serving);
    health->SetServingStatus(v1::Control::service_full_name(), serving);
    health->SetServingStatus(::vllm::grpc::engine::VllmEngine::service_full_name(), serving);
    health->SetServingStatus(serving);
  });
}

void GrpcServer::Warn(std::string_view port, std::string_view message) const {
  serving_.log.Write(LogLevel::kWarning, port, {{"message", std::string(message)}});
}

HttpOptions GrpcServer::OptionsOfHttp(const std::string& listen, int max_connections) const {
  HttpOptions options{.listen = listen,
                      .server_name = absl::StrCat("mea/", Version()),
                      .max_connections = max_connections};
  options.certificates = options_.certificates;
  options.warn = [this](std::string_view message) { Warn("http", message); };
  return options;
}

absl::Status GrpcServer::ListenAdmin() {
  if (options_.admin.empty()) return absl::OkStatus();
  const auto metrics = [this] {
    return HttpAnswer{200, kMetricsContentType, serving_.MetricsText()};
  };
  HttpServer::Route metrics_page = Page("/metrics", metrics);
  if (!options_.open_metrics) {
    metrics_page = Guard(options_.access, Right::kMetrics, std::move(metrics_page));
  }
  std::vector<HttpServer::Route> routes = PageRoutes(serving_, history_, /*has_api=*/false);
  routes.push_back(Page("/health", [this] { return Health(); }));
  routes.push_back(std::move(metrics_page));
  auto admin =
      HttpServer::Listen(OptionsOfHttp(options_.admin, max_connections_.admin), std::move(routes));
  if (!admin.ok()) return OfFlag(kAdminFlag, admin.status());
  admin_ = *std::move(admin);
  return absl::OkStatus();
}

absl::Status GrpcServer::ListenHttp() {
  if (options_.http.empty()) return absl::OkStatus();
  HttpOptions options = OptionsOfHttp(options_.http, max_connections_.http);
  options.cors_origins = options_.http_cors;
  options.error_answer = [](int code, std::string_view message) {
    return openai::ErrorAnswer(code, message);
  };
  std::vector<HttpServer::Route> routes = openai::Routes(serving_, options_.open_metrics);
  for (HttpServer::Route& route : PageRoutes(serving_, history_, /*has_api=*/true)) {
    routes.push_back(std::move(route));
  }
  auto http = HttpServer::Listen(std::move(options), std::move(routes));
  if (!http.ok()) return OfFlag(kHttpFlag, http.status());
  http_ = *std::move(http);
  return absl::OkStatus();
}

HttpAnswer GrpcServer::Health() const {
  const ServingState state = serving_.readiness.state();
  return {.code = state == ServingState::kServing ? 200 : 503,
          .body = absl::StrCat(std::string(ServingStateName(state)), "\n")};
}

absl::Status GrpcServer::PublishKvEvents() {
  if (options_.kv_events.endpoint.empty()) return absl::OkStatus();
  MEA_ASSIGN_OR_RETURN(kv_publisher_, ZmqPublisher::Start(options_.kv_events, serving_.kv_events));
  return absl::OkStatus();
}

absl::Status GrpcServer::WatchPorts() {
  std::vector<Address> ports;
  for (const std::string& name : {listen_address_, admin_address(), http_address()}) {
    if (name.empty()) continue;
    MEA_ASSIGN_OR_RETURN(const Address address, ParseAddress(name));
    ports.push_back(address);
  }
  port_watch_ =
      std::make_unique<PortWatch>(ports, std::min(kMaxPortPeriod, options_.port_timeout / 4));
  return absl::OkStatus();
}

absl::Status GrpcServer::health() const {
  const PortWatch::Silence silence = port_watch_->silence();
  if (silence.time < kPortTimeouts * options_.port_timeout) return absl::OkStatus();
  return absl::UnavailableError(
      absl::StrCat("nobody answers on a port of ours: ", silence.problem));
}

void GrpcServer::WatchHeartbeat() {
  absl::Time last_look = Now();
  absl::Time awake_since = last_look;
  while (!stop_watching_.WaitForNotificationWithTimeout(kWatchPeriod)) {
    if (!serving_.engine.health().ok()) serving_.readiness.Set(ServingState::kFailed);
    const absl::Time now = Now();  // before the check: a pause between the two is not silence
    // This thread did not run either: the whole process was stopped, which is no stall.
    if (now - last_look > kWatchPeriod + options_.stall_timeout / 2) awake_since = now;
    last_look = now;
    const absl::Time last_sign = std::max(serving_.engine.last_heartbeat(), awake_since);
    const bool alive = now - last_sign < options_.stall_timeout;
    const bool heard = port_watch_->silence().time < options_.port_timeout;
    serving_.readiness.Set(alive && heard ? ServingState::kServing : ServingState::kStalled);
    memory_trim_.Look(serving_.text_budget.taken() == 0 && serving_.requests.size() == 0, now);
    stats_log_.Look(now);
    history_.Look(serving_.engine.stats(), now);
  }
}

// Logs changes of the engine's state; a drain logs more at its beginning and end.
void GrpcServer::LogState(ServingState state) {
  const ServingState before = std::exchange(logged_state_, state);
  if (state == before) return;
  if (state == ServingState::kStalled) {
    const PortWatch::Silence ports = port_watch_->silence();
    if (ports.time >= options_.port_timeout) {
      serving_.log.Write(LogLevel::kError, "port silent",
                         {{"message", ports.problem}, {"silent_ms", ports.time}});
    } else {
      serving_.log.Write(LogLevel::kError, "engine stalled",
                         {{"silent_ms", Now() - serving_.engine.last_heartbeat()}});
    }
  } else if (state == ServingState::kFailed) {
    serving_.log.Write(LogLevel::kError, "engine failed");
  } else if (state == ServingState::kServing) {
    serving_.log.Write(LogLevel::kInfo, "recovered");
  }
}

void GrpcServer::Drain(absl::Time deadline) {
  const absl::Time start = Now();
  serving_.log.Write(LogLevel::kInfo, "drain begins",
                     {{"in_flight", serving_.requests.size()}, {"limit_ms", deadline - start}});
  serving_.readiness.Set(ServingState::kDraining);
  if (http_) http_->BeginDrain();
  serving_.engine.Drain(deadline);
  serving_.text_calls.AwaitNone(deadline);
  const absl::Time flushed = Now() + kFlushTimeout;
  serving_.open_calls.AwaitNone(flushed);
  if (http_) http_->Drain(flushed);
  ShutDown(Now() + kCloseTimeout);
  if (admin_) admin_->Drain(Now() + kCloseTimeout);
  serving_.log.Write(LogLevel::kInfo, "drain ended", {{"took_ms", Now() - start}});
}

void GrpcServer::ShutDown(absl::Time deadline) {
  serving_.kv_events.Close();
  if (!grpc_) return;
  grpc_port_->Stop();
  grpc_->Shutdown(absl::ToChronoTime(ToWallClock(deadline)));
  grpc_->Wait();
}

GrpcServer::~GrpcServer() {
  if (!watcher_.joinable()) return;  // no request was admitted: the engine was not ours yet
  stop_watching_.Notify();
  watcher_.join();
  port_watch_.reset();
  serving_.readiness.Set(ServingState::kDraining);
  serving_.engine.Drain(Now());
  ShutDown(Now());
  http_.reset();                        // cancels the requests of its clients
  serving_.requests.AwaitNone();        // requests may outlive the calls of clients that left
  serving_.readiness.Observe(nullptr);  // the health service goes with grpc_
}

}  // namespace

absl::StatusOr<std::unique_ptr<Server>> Server::Start(ServerOptions options, Engine& engine,
                                                      const Tokenizer& tokenizer, Metrics& metrics,
                                                      Log& log) {
  auto server = std::make_unique<GrpcServer>(std::move(options), engine, tokenizer, metrics, log);
  MEA_RETURN_IF_ERROR(server->Listen());
  return server;
}

}  // namespace mea
