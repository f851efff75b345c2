#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "engine/checkpoint/hub_cache.h"
#include "engine/clock.h"
#include "engine/engine.h"
#include "engine/text/tokenizer.h"
#include "engine/text/utf8.h"
#include "kernels/status_macros.h"
#include "server/cli/access_flags.h"
#include "server/cli/command.h"
#include "server/cli/engine_flags.h"
#include "server/cli/in_range.h"
#include "server/cli/load_log.h"
#include "server/cli/load_text.h"
#include "server/cli/model_dir.h"
#include "server/cli/signals.h"
#include "server/cli/start_log.h"
#include "server/descriptors.h"
#include "server/log.h"
#include "server/metrics.h"
#include "server/server.h"
#include "server/supervisor.h"
#include "server/traces/span_exporter.h"
#include "server/traces/trace_settings.h"

namespace mea {
namespace {

constexpr char kServeExamples[] = R"(
Examples:
  mea serve models/demo-mea                                      gRPC on 127.0.0.1:50051, OpenAI on :8000
  mea serve models/demo-mea --listen 0.0.0.0:50051 --admin off --api-key-file keys.jsonl
      --tls-cert cert.pem --tls-key key.pem                  for other machines, no admin port
  mea serve models/demo-mea --kv-cache-bytes 4GiB --max-context 8192

SIGTERM or Ctrl-C drains: no new requests, those that run may finish. A second one ends at once.
Exit status: 0 after a drain, 1 after a failure, 3 when a file of the checkpoint was cut short,
4 when nobody answers on a port of its own.
)";

constexpr absl::Duration kLeastTargetItl = absl::Milliseconds(1);
constexpr absl::Duration kMostTargetItl = absl::Minutes(1);
constexpr absl::Duration kHealthPeriod = absl::Milliseconds(250);

// In the order of LogLevel.
const std::vector<std::string> kLogLevels = {"trace", "debug", "info", "warning", "error", "off"};

LogLevel ParseLogLevel(const std::string& name) {
  return static_cast<LogLevel>(std::find(kLogLevels.begin(), kLogLevels.end(), name) -
                               kLogLevels.begin());
}

absl::StatusOr<std::optional<absl::Duration>> ParseTargetItl(const std::string& text) {
  absl::Duration duration;
  if (text == "auto") return std::optional<absl::Duration>();
  if (text == "off" || text == "0") return std::optional(absl::InfiniteDuration());
  if (absl::ParseDuration(text, &duration) && duration >= kLeastTargetItl &&
      duration <= kMostTargetItl) {
    return std::optional(duration);
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "--target-itl '", text, "' is not auto, off, or a duration in ",
      absl::FormatDuration(kLeastTargetItl), "..", absl::FormatDuration(kMostTargetItl)));
}

struct ServeFlags {
  EngineOptions engine;
  ServerOptions server;
  TextFlags text;
  AccessFlags access;
  std::string log_level = "info";
  std::string log_format = "text";
  std::string target_itl = "auto";
  std::string metrics_compat = "none";
  std::string otlp_traces;
  double drain_timeout_s = 30;
  double stall_timeout_s = 5;
  double stats_interval_s = 10;
};

void AddKvEvents(CLI::App& command, KvEventsOptions& events) {
  const char* group = "Telling routers what is cached";
  command
      .add_option("--kv-events", events.endpoint,
                  "Publish over ZeroMQ what the prefix cache gains and loses, as vLLM does: "
                  "tcp://*:5557 waits for subscribers, tcp://HOST:5557 goes to one")
      ->type_name("ENDPOINT")
      ->group(group);
  command
      .add_option("--kv-events-topic", events.topic,
                  "Topic of its messages; default: kv@HOSTNAME@MODEL-NAME, as llm-d expects it")
      ->type_name("TEXT")
      ->group(group);
  command
      .add_option("--kv-events-replay", events.replay,
                  "Where subscribers ask for messages that they missed: tcp://*:5558")
      ->type_name("ENDPOINT")
      ->group(group);
}

void AddFlags(CLI::App& command, ServeFlags& flags) {
  EngineOptions& engine = flags.engine;
  AddModelDir(command, engine.model_dir).required();
  command.add_option("--model-name", flags.server.model_name,
                     "Name that clients see; default: the directory's as it was typed, or ORG/NAME "
                     "in Hugging Face's cache");
  command
      .add_option("--listen", flags.server.listen,
                  "gRPC address, or 'off'; port 0 takes a free one")
      ->type_name("HOST:PORT")
      ->capture_default_str();
  command
      .add_option("--admin", flags.server.admin,
                  "HTTP address of /metrics, /health and a page for people, or 'off'")
      ->type_name("HOST:PORT")
      ->capture_default_str();
  command
      .add_option("--http", flags.server.http,
                  "HTTP address of the OpenAI API and the same page, or 'off'")
      ->type_name("HOST:PORT")
      ->capture_default_str();
  command
      .add_option("--http-cors", flags.server.http_cors,
                  "Web origin whose pages may call the OpenAI API from a browser, e.g. "
                  "https://chat.example.org; '*': any")
      ->type_name("ORIGIN");
  command
      .add_option("--chat-template", flags.text.chat_template,
                  "Jinja file in place of the checkpoint's chat template")
      ->type_name("FILE");
  command
      .add_option("--generation-config", engine.generation_config,
                  "JSON file in place of the checkpoint's generation_config.json, or 'none'")
      ->type_name("FILE");
  command
      .add_option("--tool-parser", flags.text.tool_parser,
                  "How the model writes tool calls: " + ToolParserNames())
      ->type_name("NAME")
      ->capture_default_str();
  command
      .add_option("--reasoning-parser", flags.text.reasoning_parser,
                  "How it sets its reasoning apart: " + ReasoningParserNames())
      ->type_name("NAME")
      ->capture_default_str();
  AddKvCacheBytes(
      command, engine.kv_cache_bytes,
      "on the CPU enough for --max-num-seqs full contexts, but at most a quarter of the "
      "machine's or container's memory; on a GPU all that is left");
  command
      .add_option(
          "--max-context", engine.max_context,
          "Most tokens of one request, prompt and output together; 0: the model's own context")
      ->check(InRange(0, 1 << 30))
      ->capture_default_str();
  AddGpuMemoryUtilization(command, engine.gpu_memory_utilization);
  AddMaxNumSeqs(command, engine.max_num_seqs);
  AddMaxBatchTokens(command, engine.max_batch_tokens);
  command
      .add_option("--target-itl", flags.target_itl,
                  "Longest time of a step while sequences decode, e.g. 50ms: prompts get what is "
                  "left of it, but at least 24 tokens. auto: 2.5 times what the step takes without "
                  "prompts, more where prompts pile up. off: prompts fill every step up to "
                  "--max-batch-tokens")
      ->type_name("DURATION")
      ->capture_default_str();
  command
      .add_option("--max-queued-requests", engine.max_queued_requests,
                  "Most requests that may wait; more are refused")
      ->check(InRange(1, 1 << 20))
      ->capture_default_str();
  command
      .add_option("--max-queued-tokens", engine.max_queued_tokens,
                  "Most prompt tokens that may wait; more are refused")
      ->check(InRange(1, 1 << 30))
      ->capture_default_str();
  AddWeightDType(command, engine.weight_dtype);
  command.add_flag("!--no-weight-check", engine.check_weights,
                   "Do not look for infinities and NaNs in the weights: a slightly faster start");
  command
      .add_option("--weight-cache", engine.weight_cache,
                  "Directory that keeps what --weight-dtype makes of the weights: later starts map "
                  "it. Nothing there is ever deleted: remove the files to clear it")
      ->type_name("DIR");
  AddKvDType(command, engine.kv_dtype);
  AddPageSize(command, engine.page_size);
  AddDevice(command, engine.device);
  command.add_flag("--deterministic", engine.deterministic,
                   "On a GPU: the same algorithms in every run, and attention whose sums do not "
                   "depend on the batch; slower");
  command.add_flag(
      "--random-weights", engine.random_weights,
      "Make up the weights, to measure speed: DIR needs config.json and tokenizer.json only");
  AddThreads(command, engine.num_threads);
  AddCpuAffinity(command, engine.cpu_affinity);
  command
      .add_option("--numa", engine.numa,
                  "Memory of machines with several nodes. off: as the system places it; "
                  "interleave: all of it on every node in turn; local: the weights near the "
                  "threads that read them, the rest in turn")
      ->check(CLI::IsMember({"off", "interleave", "local"}))
      ->capture_default_str();
  command
      .add_option("--drain-timeout", flags.drain_timeout_s,
                  "Seconds that running requests may take to finish after SIGTERM")
      ->check(InRange(0.0, 86400.0))
      ->capture_default_str();
  command
      .add_option("--stall-timeout", flags.stall_timeout_s,
                  "Seconds without progress after which the server reports NOT_SERVING; one layer "
                  "of a step must take less. A port of the server that answers nobody is given "
                  "three times as long; after twelve times as long the program ends with status 4")
      ->check(InRange(1.0, 86400.0))
      ->capture_default_str();
  command
      .add_option("--metrics-compat", flags.metrics_compat,
                  "Export metrics also under the names of vllm; none: under ours alone")
      ->check(CLI::IsMember({"none", "vllm"}))
      ->capture_default_str();
  command
      .add_option("--otlp-traces", flags.otlp_traces,
                  "Collector that is sent a trace of each request, by OTLP over gRPC: "
                  "http://HOST:4317, https://HOST:4317 or 'off'; default: "
                  "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT or OTEL_EXPORTER_OTLP_ENDPOINT, or none")
      ->type_name("URL");
  command
      .add_option("--log-level", flags.log_level,
                  "Least severe level that is logged to standard error: trace, debug, info, "
                  "warning, error, off")
      ->check(CLI::IsMember(kLogLevels))
      ->capture_default_str();
  command
      .add_option("--log-format", flags.log_format,
                  "Format of log lines: text, json. With json nothing else is printed; the event "
                  "'ready' has the addresses")
      ->check(CLI::IsMember({"text", "json"}))
      ->capture_default_str();
  command
      .add_option(
          "--stats-interval", flags.stats_interval_s,
          "Seconds between log lines with throughput, load and cache, while there is work; 0: none")
      ->check(InRange(0.0, 86400.0))
      ->capture_default_str();
  AddKvEvents(command, flags.server.kv_events);
  flags.access.AddTo(command);
}

// Absent: no request is traced. What only the environment says stops no server.
absl::StatusOr<std::optional<TraceSettings>> TraceSettingsOf(const std::string& flag, Log& log) {
  absl::StatusOr<std::optional<TraceSettings>> settings =
      ReadTraceSettings(flag, [](const char* name) {
        const char* value = std::getenv(name);
        return std::string(value == nullptr ? "" : value);
      });
  if (settings.ok() || !flag.empty()) return settings;
  log.Write(LogLevel::kWarning, "traces not sent",
            {{"message", std::string(settings.status().message())}});
  return std::nullopt;
}

absl::Status Serve(ServeFlags flags) {
  static Signals& signals = *new Signals(
      "mea serve: interrupted before it was ready");  // its thread lives as long as the program
  MEA_ASSIGN_OR_RETURN(flags.engine.target_itl, ParseTargetItl(flags.target_itl));
  flags.server.stall_timeout = absl::Seconds(flags.stall_timeout_s);
  flags.server.stats_interval = absl::Seconds(flags.stats_interval_s);
  flags.server.port_timeout = 3 * flags.server.stall_timeout;
  std::signal(SIGPIPE, SIG_IGN);  // the reader of our log may exit
  RaiseMaxDescriptors();
  MEA_RETURN_IF_ERROR(ConnectionLimitsOf(MaxDescriptors()).status());
  for (std::string* address : {&flags.server.listen, &flags.server.http, &flags.server.admin}) {
    if (*address == "off") address->clear();
  }
  MEA_RETURN_IF_ERROR(flags.access.Apply(flags.server));
  // Before the model is loaded, which may take minutes.
  MEA_RETURN_IF_ERROR(Server::CheckAddresses(flags.server));
  MEA_RETURN_IF_ERROR(CheckModelDir(flags.engine.model_dir));
  if (flags.server.model_name.empty()) {
    flags.server.model_name = CheckpointName(flags.engine.model_dir);
  }
  if (!IsValidUtf8(flags.server.model_name)) {  // every answer has it, as text
    return absl::InvalidArgumentError(
        absl::StrCat("--model-name '", absl::CHexEscape(flags.server.model_name),
                     "' is not UTF-8; it is the directory's name where it is not given"));
  }
  if (flags.server.kv_events.topic.empty()) {
    std::array<char, 256> host{};
    gethostname(host.data(), host.size() - 1);
    flags.server.kv_events.topic = absl::StrCat("kv@", host.data(), "@", flags.server.model_name);
  }
  const bool json = flags.log_format == "json";
  Log log({.level = ParseLogLevel(flags.log_level),
           .format = json ? LogFormat::kJson : LogFormat::kText});
  MEA_ASSIGN_OR_RETURN(const auto trace_settings, TraceSettingsOf(flags.otlp_traces, log));
  const MachineLimits machine = ReadMachineLimits();  // before this program uses any
  const auto tell_supervisor = [&log](std::string_view state) {
    if (absl::Status status = TellSupervisor(state); !status.ok()) {
      log.Write(LogLevel::kWarning, "supervisor", {{"message", std::string(status.message())}});
    }
  };
  Metrics metrics(
      {.model_name = flags.server.model_name, .vllm_names = flags.metrics_compat == "vllm"});

  std::optional<SpanExporter> spans;
  if (trace_settings) {
    spans.emplace(trace_settings->exporter, log);
    log.Write(LogLevel::kInfo, "traces",
              {{"collector", trace_settings->exporter.collector.ToString()}});
    flags.server.spans = &*spans;
    flags.server.trace_sampler = trace_settings->sampler;
  }

  std::unique_ptr<Engine> engine;
  std::unique_ptr<Tokenizer> tokenizer;
  {
    LoadLog loading(flags.engine.model_dir, log);
    const auto show = [&](std::string_view step, int64_t done, int64_t total) {
      loading.Show(step, done, total);
    };
    const auto observe = [&](const StepReport& step) { metrics.ObserveStep(step); };
    MEA_ASSIGN_OR_RETURN(engine, StartEngine(flags.engine, show, observe));
    loading.Show("tokenizer and chat template");
    MEA_ASSIGN_OR_RETURN(auto text, LoadText(flags.engine.model_dir, flags.text));
    tokenizer = std::move(text.tokenizer);
    flags.server.chat = text.chat;
    flags.server.reply_format = text.reply_format;
    flags.server.reply_markers = text.reply_markers;
    loading.Show("tables for structured output");
    MEA_ASSIGN_OR_RETURN(flags.server.grammars,
                         GrammarCompiler::Create(*tokenizer, engine->config().vocab_size,
                                                 {.spelled_tokens = text.reply_markers}));
  }
  signals.Arm();  // before anybody is served or told that it is ready
  MEA_ASSIGN_OR_RETURN(auto server, Server::Start(flags.server, *engine, *tokenizer, metrics, log));
  LogStart(machine, *engine, *tokenizer, log);
  if (!json) {
    dprintf(STDOUT_FILENO, "%s\n", server->ready_line().c_str());  // if anybody reads it
  }
  tell_supervisor("READY=1");

  while (!signals.WaitFor(kHealthPeriod)) {
    // After a failure its requests have ended; a supervisor should start the program again.
    MEA_RETURN_IF_ERROR(engine->health());
    if (absl::Status health = server->health(); !health.ok()) {
      return WithExitCode(health, kPortSilent);
    }
  }
  tell_supervisor("STOPPING=1");
  server->Drain(Now() + absl::Seconds(flags.drain_timeout_s));
  return absl::OkStatus();
}

}  // namespace

void AddServe(CLI::App& program, Action& action) {
  CLI::App& command = *program.add_subcommand("serve", "Serve a checkpoint over gRPC and HTTP");
  command.footer(kServeExamples);
  auto flags = std::make_shared<ServeFlags>();
  AddFlags(command, *flags);
  command.callback([flags, &action] { action = [flags] { return Serve(*flags); }; });
}

}  // namespace mea
