#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "engine/storage/output_file.h"
#include "kernels/status_macros.h"
#include "server/bench/cache_watch.h"
#include "server/bench/grpc_client.h"
#include "server/bench/measurement.h"
#include "server/bench/openai_client.h"
#include "server/bench/prompts.h"
#include "server/bench/report.h"
#include "server/bench/traffic.h"
#include "server/cli/client_flags.h"
#include "server/cli/command.h"
#include "server/cli/in_range.h"
#include "server/notification.h"

namespace mea {
namespace {

constexpr char kBenchServeExamples[] = R"(
Examples:
  mea bench serve --num-requests 200 --concurrency 16
  mea bench serve --arrivals poisson --rate 8 --duration 60 --input-tokens 64:512
      --output-tokens 32:128 --goodput ttft:500ms,tpot:50ms --json run.json
  mea bench serve --prefix-tokens 2048 --input-tokens 64        prompts that begin alike
  mea bench serve --openai http://127.0.0.1:8080 --vocab-size 32000 --arrivals poisson --rate 8

A run has a new seed unless --seed gives one, and each of its rounds new prompts: a server that has
seen a prompt finds it in its prefix cache, and the report says how much was found. Servers that are
compared get the same --seed: the same prompts at the same times.
)";

constexpr absl::Duration kCachePeriod = absl::Milliseconds(50);
constexpr absl::Duration kRedrawPeriod = absl::Milliseconds(200);
constexpr absl::Duration kFilePeriod = absl::Seconds(10);
constexpr int64_t kWarmupNumber = int64_t{1} << 40;  // prompts of no measured request

struct ServeBenchFlags {
  std::string server = kDefaultServer;
  ClientCredentials credentials;
  std::string openai;
  std::string arrivals = "inf";
  std::string input = "128";
  std::string output = "128";
  std::string goodput;
  std::string json;
  int64_t warmup = 0;
  int rounds = 1;
  std::optional<uint64_t> seed;
  bool stop_at_eos = false;
  TrafficOptions load;
  PromptOptions prompts;
  BenchCallOptions call;
};

// One line on stderr with the progress of the measurement: updated in place on a terminal,
// otherwise repeated now and then.
class LiveLine {
 public:
  LiveLine(const LiveCounts& live, int64_t num_requests)
      : live_(live), num_requests_(num_requests), thread_([this] { Run(); }) {}
  ~LiveLine() {
    stop_.Notify();
    thread_.join();
    if (terminal_) std::fputs("\r\033[K", stderr);
  }

 private:
  void Run() {
    const auto start = BenchClock::now();
    while (!stop_.WaitForNotificationWithTimeout(terminal_ ? kRedrawPeriod : kFilePeriod)) {
      const double seconds = SecondsBetween(start, BenchClock::now());
      const int64_t tokens = live_.tokens;
      const std::string of = num_requests_ > 0 ? absl::StrCat(" of ", num_requests_) : "";
      std::fputs(absl::StrFormat("%s%.0f s: %d%s requests ended, %d of them failed; %d running; "
                                 "%.1f tokens/s%s",
                                 terminal_ ? "\r\033[K" : "", seconds, live_.ended.load(), of,
                                 live_.failed.load(), live_.running.load(),
                                 static_cast<double>(tokens) / seconds, terminal_ ? "" : "\n")
                     .c_str(),
                 stderr);
    }
  }

  const LiveCounts& live_;
  const int64_t num_requests_;
  const bool terminal_ = isatty(STDERR_FILENO) == 1;
  Notification stop_;
  std::thread thread_;
};

// Reads the flags that are words.
absl::Status Resolve(ServeBenchFlags& flags) {
  MEA_ASSIGN_OR_RETURN(flags.load.arrivals.kind, ParseArrivalKind(flags.arrivals));
  MEA_ASSIGN_OR_RETURN(flags.prompts.input, ParseLengthRange("--input-tokens", flags.input));
  MEA_ASSIGN_OR_RETURN(flags.prompts.output, ParseLengthRange("--output-tokens", flags.output));
  // Short enough to be typed again.
  const auto clock = static_cast<uint64_t>(absl::ToUnixSeconds(absl::Now()));
  flags.load.arrivals.seed = flags.prompts.seed = flags.seed.value_or(clock);
  flags.call.ignore_eos = !flags.stop_at_eos;
  if (flags.load.num_requests == 0 && flags.load.duration_s == 0) flags.load.num_requests = 100;
  return absl::OkStatus();
}

// A server to measure: who it is, and how to reach it.
struct Target {
  ServeBenchSetup setup;
  BenchClientFactory clients;
  std::shared_ptr<grpc::Channel> channel;  // null unless it is mea
};

absl::StatusOr<Target> OpenMea(ServeBenchFlags& flags) {
  Target target;
  MEA_ASSIGN_OR_RETURN(target.channel, OpenChannel(flags.server, flags.credentials));
  MEA_ASSIGN_OR_RETURN(const auto facts, AskServer(target.channel, flags.server));
  if (flags.prompts.vocab_size == 0) flags.prompts.vocab_size = facts.vocab_size;
  target.setup.system = absl::StrCat("mea ", facts.version);
  target.setup.server = flags.server;
  target.setup.model = facts.model;
  target.setup.device = facts.device;
  target.setup.tells_cached = true;
  target.clients = GrpcBenchClients(target.channel, flags.call);
  return target;
}

absl::StatusOr<Target> OpenOpenAi(ServeBenchFlags& flags) {
  MEA_ASSIGN_OR_RETURN(const std::string key, flags.credentials.ApiKey());
  const OpenAiServer server{.url = flags.openai,
                            .api_key = key,
                            .tls_ca = flags.credentials.tls_ca,
                            .tls_cert = flags.credentials.tls_cert,
                            .tls_key = flags.credentials.tls_key};
  std::signal(SIGPIPE, SIG_IGN);  // a closed connection must not end this program
  if (flags.call.model.empty()) {
    MEA_ASSIGN_OR_RETURN(flags.call.model, AskOpenAiModel(server));
  }
  Target target;
  target.setup.system = "openai";
  target.setup.server = flags.openai;
  target.setup.model = flags.call.model;
  target.clients = OpenAiBenchClients(server, flags.call);
  return target;
}

// The result of one round.
struct Round {
  Measurement measured;
  std::optional<CachePeak> cache;
};

Round RunRound(const ServeBenchFlags& flags, const Prompts& prompts, const Target& target,
               const std::optional<GoodputLimits>& limits) {
  TrafficResult result;
  Round round;
  {
    LiveCounts live;
    LiveLine line(live, flags.load.num_requests);
    std::optional<CacheWatch> watch;
    if (target.channel) watch.emplace(target.channel, kCachePeriod);
    result = RunTraffic(flags.load, prompts, target.clients, live);
    if (watch) round.cache = watch->Stop();
  }
  round.measured = Measure(result, limits);
  return round;
}

absl::Status RunServeBench(ServeBenchFlags flags) {
  MEA_RETURN_IF_ERROR(Resolve(flags));
  std::optional<GoodputLimits> limits;
  if (!flags.goodput.empty()) {
    MEA_ASSIGN_OR_RETURN(limits, ParseGoodput(flags.goodput));
  }
  MEA_ASSIGN_OR_RETURN(Target target, flags.openai.empty() ? OpenMea(flags) : OpenOpenAi(flags));
  ServeBenchSetup& setup = target.setup;
  setup.prompts = DescribePrompts(flags.prompts);
  setup.goodput = flags.goodput;

  int64_t ended_well = 0;
  std::vector<std::string> reports;
  for (int i = 0; i < flags.rounds; ++i) {
    flags.prompts.round = i;
    MEA_ASSIGN_OR_RETURN(const Prompts prompts, Prompts::Create(flags.prompts));
    if (i == 0 && flags.warmup > 0) {
      LiveCounts live;
      RunTraffic({.concurrency = flags.load.concurrency,
                  .num_requests = flags.warmup,
                  .first_number = kWarmupNumber},
                 prompts, target.clients, live);
    }
    const Round round = RunRound(flags, prompts, target, limits);
    setup.load = flags.load;
    if (flags.rounds > 1) std::printf("%sround %d of %d: ", i > 0 ? "\n" : "", i + 1, flags.rounds);
    std::fputs(ServeReport(setup, round.measured, round.cache).c_str(), stdout);
    std::fflush(stdout);
    reports.push_back(ServeReportJson(setup, round.measured, round.cache));
    ended_well += round.measured.completed + round.measured.cancelled;
  }
  if (!flags.json.empty()) {
    const std::string text =
        flags.rounds == 1 ? reports.front() : absl::StrCat("[", absl::StrJoin(reports, ","), "]\n");
    MEA_RETURN_IF_ERROR(ReplaceFile(flags.json, text));
  }
  if (ended_well > 0) return absl::OkStatus();
  return absl::UnavailableError("no request ended well");
}

void AddLoadFlags(CLI::App& command, ServeBenchFlags& flags) {
  const char* group = "Load";
  command
      .add_option("--arrivals", flags.arrivals,
                  "inf: as soon as a stream is free; poisson, gamma: at --rate")
      ->check(CLI::IsMember({"inf", "poisson", "gamma"}))
      ->capture_default_str()
      ->group(group);
  command.add_option("--rate", flags.load.arrivals.rate, "Requests per second")
      ->check(InRange(1e-3, 1e6))
      ->capture_default_str()
      ->group(group);
  command
      .add_option("--burstiness", flags.load.arrivals.burstiness,
                  "Shape of gamma: 1 is poisson, less comes in bursts, more comes evenly")
      ->check(InRange(1e-3, 1e3))
      ->capture_default_str()
      ->group(group);
  command.add_option("--concurrency", flags.load.concurrency, "Most streams at once")
      ->check(InRange(1, 1024))
      ->capture_default_str()
      ->group(group);
  command
      .add_option("--num-requests", flags.load.num_requests,
                  "Requests in all; default: 100, or as many as --duration allows")
      ->check(InRange(1, 1 << 30))
      ->group(group);
  command.add_option("--duration", flags.load.duration_s, "Seconds after which no request is sent")
      ->check(InRange(0.0, 86400.0))
      ->group(group);
  command.add_option("--warmup", flags.warmup, "Requests before the measurement")
      ->check(InRange(0, 1 << 20))
      ->capture_default_str()
      ->group(group);
  command
      .add_option("--cancel-rate", flags.prompts.cancel_rate,
                  "Share of requests that are cancelled after some of their tokens")
      ->check(InRange(0.0, 1.0))
      ->capture_default_str()
      ->group(group);
  command
      .add_option("--rounds", flags.rounds,
                  "Measurements one after the other, each with new prompts")
      ->check(InRange(1, 1000))
      ->capture_default_str()
      ->group(group);
  command
      .add_option("--seed", flags.seed,
                  "Repeats the arrivals and prompts of a run with this seed; default: a new one")
      ->group(group);
}

void AddPromptFlags(CLI::App& command, ServeBenchFlags& flags) {
  const char* group = "Prompts";
  command.add_option("--input-tokens", flags.input, "Tokens of a random prompt, N or LOW:HIGH")
      ->capture_default_str()
      ->group(group);
  command.add_option("--output-tokens", flags.output, "Tokens to generate, N or LOW:HIGH")
      ->capture_default_str()
      ->group(group);
  command
      .add_option("--prefix-tokens", flags.prompts.prefix_tokens,
                  "Tokens of a beginning that prompts share, before their own")
      ->check(InRange(0, 1 << 24))
      ->capture_default_str()
      ->group(group);
  command
      .add_option("--num-prefixes", flags.prompts.num_prefixes,
                  "Number of different shared beginnings")
      ->check(InRange(1, 1 << 20))
      ->capture_default_str()
      ->group(group);
  command
      .add_option("--prompt-file", flags.prompts.file,
                  "Lines {\"prompt\": TEXT or [IDS], \"max_tokens\": N} instead of random prompts")
      ->type_name("FILE")
      ->group(group);
  command
      .add_option("--vocab-size", flags.prompts.vocab_size,
                  "Random prompts are token ids below this; default: what a mea server says, "
                  "English words for others")
      ->check(InRange(1, 1 << 24))
      ->group(group);
  command
      .add_flag("--stop-at-eos", flags.stop_at_eos,
                "Let completions end before their length; default: they go on")
      ->group(group);
  command.add_option("--temperature", flags.call.temperature, "0 is greedy")
      ->check(InRange(0.0, 2.0))
      ->capture_default_str()
      ->group(group);
}

}  // namespace

void AddServeBench(CLI::App& bench, Action& action) {
  CLI::App& command =
      *bench.add_subcommand("serve", "Load a running server and time what its clients see");
  command.footer(kBenchServeExamples);
  auto flags = std::make_shared<ServeBenchFlags>();
  AddClientFlags(command, flags->server, flags->credentials);
  command
      .add_option(
          "--openai", flags->openai,
          "Measure this server instead, by POST /v1/completions: http://HOST:PORT or https://...")
      ->type_name("URL");
  command.add_option("--model", flags->call.model, "Name of the model; default: what is served");
  command
      .add_option("--timeout", flags->call.timeout_s,
                  "Seconds that one request may take; 0: no limit")
      ->check(InRange(0.0, 86400.0))
      ->capture_default_str();
  command
      .add_option("--goodput", flags->goodput,
                  "Count requests within these, e.g. ttft:500ms,tpot:50ms,e2e:10s")
      ->type_name("LIMITS");
  command.add_option("--json", flags->json, "Also write the results here")->type_name("FILE");
  AddLoadFlags(command, *flags);
  AddPromptFlags(command, *flags);
  command.callback([flags, &action] { action = [flags] { return RunServeBench(*flags); }; });
}

}  // namespace mea
