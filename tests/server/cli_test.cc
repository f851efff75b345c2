// The program as its users meet it: each failure is one line on stderr and an exit status.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "tests/server/run_mea.h"
#include "tests/server/server_fixture.h"

namespace mea::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::Not;
using ::testing::StartsWith;

TEST(CliTest, BenchWritesWhatItPrints) {
  const std::string shape = MEA_SOURCE_DIR "/tests/bench/shapes/tiny_h2";
  const std::string json = ::testing::TempDir() + "mea_bench_" + std::to_string(getpid());
  const std::string quick = " --threads 1 --batch 1 --context 64 --rounds 1 --round-seconds 0";
  for (const std::string& bench :
       {"engine --chunk 16 --random-weights " + shape, "attention --uncompressed " + shape}) {
    const Outcome outcome = RunMea("bench " + bench + quick + " --json " + json);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    // A head, then a line for each result.
    const std::string text = ReadFile(json);
    size_t results = 0;
    for (size_t at = 0; (at = text.find("\"median\"", at)) != text.npos; ++at) ++results;
    EXPECT_EQ(std::count(outcome.out.begin(), outcome.out.end(), '\n'), 1 + results);
    EXPECT_GE(results, 2u);
    std::filesystem::remove(json);
  }
}

TEST(CliTest, NoProxyStandsBetweenProgramsOfOneMachine) {
  ServerFixture f;
  f.engine.SetAnswer("hello");
  for (const char* name : {"http_proxy", "https_proxy", "grpc_proxy"}) {
    setenv(name, "http://127.0.0.1:1", /*overwrite=*/1);
  }
  const std::string server = " --server " + f.server->listen_address();
  const Outcome health = RunMea("health" + server);
  EXPECT_EQ(health.out, "SERVING\n") << health.err;
  const Outcome generate = RunMea("generate --prompt hey" + server);
  EXPECT_THAT(generate.out, HasSubstr("hello")) << generate.err;
  const Outcome bench =
      RunMea("bench serve --num-requests 2 --input-tokens 3 --output-tokens 4" + server);
  EXPECT_THAT(bench.out, HasSubstr("2 completed")) << bench.err;
  for (const char* name : {"http_proxy", "https_proxy", "grpc_proxy"}) unsetenv(name);
}

TEST(CliTest, BenchServeMeasuresARunningServer) {
  ServerFixture f;
  f.engine.SetAnswer("hello");
  const std::string json = ::testing::TempDir() + "mea_bench_" + std::to_string(getpid());
  const Outcome outcome = RunMea(
      "bench serve --num-requests 12 --concurrency 3 --warmup 2 --input-tokens 3:5 "
      "--output-tokens 4 --goodput e2e:1h --server " +
      f.server->listen_address() + " --json " + json);
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(outcome.err, "");
  EXPECT_THAT(outcome.out, AllOf(HasSubstr("12 completed"), HasSubstr("TTFT"),
                                 HasSubstr("(12 of 12)"), HasSubstr("KV cache at its peak")));
  const auto results = nlohmann::json::parse(ReadFile(json));
  EXPECT_EQ(results["completed"], 12);
  EXPECT_EQ(results["output_tokens"], 48);
  EXPECT_EQ(results["model"], "fake");
  EXPECT_EQ(f.engine.num_submitted(), 14);
  std::filesystem::remove(json);
}

TEST(CliTest, BenchServeRepeatsPromptsOnlyForTheSameSeed) {
  ServerFixture f;
  f.engine.SetAnswer("hello");
  const auto last_prompt = [&](const std::string& flags) {
    const Outcome outcome =
        RunMea("bench serve --num-requests 1 --input-tokens 40 --output-tokens 2 --server " +
               f.server->listen_address() + flags);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    EXPECT_THAT(outcome.out, HasSubstr(", seed "));
    return f.engine.last_request().prompt;
  };
  const auto of_seven = last_prompt(" --seed 7");
  EXPECT_EQ(last_prompt(" --seed 7"), of_seven);
  const auto second_round = last_prompt(" --seed 7 --rounds 2");
  EXPECT_NE(second_round, of_seven);
  EXPECT_EQ(last_prompt(" --seed 7 --rounds 2"), second_round);
  EXPECT_NE(last_prompt(""), last_prompt(" --seed 1"));
}

TEST(CliTest, FailuresAreOneLineOnStderr) {
  ServerFixture f;
  const std::string taken = f.server->listen_address();
  const std::vector<std::pair<std::string, std::string>> failures = {
      {"", "mea: a command is required .*"},
      {"frobnicate", "mea: .*frobnicate.*"},
      {"serve", "mea serve: .*model.*required.*"},
      {"serve /nonexistent --listen 127.0.0.1:0 --http off --admin off",
       "mea serve: .*/nonexistent.*"},
      {"serve /nonexistent --kv-cache-bytes lots",
       "mea serve: --kv-cache-bytes: 'lots' is not a size.*"},
      {"serve /nonexistent --target-itl 50",
       "mea serve: --target-itl '50' is not auto, off, or a duration in 1ms..1m"},
      {"serve /nonexistent --target-itl 2h", "mea serve: --target-itl '2h' is not .*"},
      {"serve /nonexistent --page-size x", "mea serve: .*page-size.*"},
      {"serve /nonexistent --drain-timeout -1", "mea serve: .*drain-timeout.*"},
      {"serve /nonexistent --log-level loud",
       "mea serve: --log-level: loud not in \\{trace,debug,info,warning,error,off\\}.*"},
      {"inspect /nonexistent", "mea inspect: .*/nonexistent.*"},
      {"plan /nonexistent", "mea plan: .*/nonexistent.*"},
      {"plan /nonexistent --memory 5x", "mea plan: --memory: '5x' is not a size.*"},
      {"plan /nonexistent --page-size 24", "mea plan: --page-size 24 is not a multiple of 16"},
      {"plan /nonexistent --max-num-seqs 9 --max-batch-tokens 8",
       "mea plan: --max-num-seqs 9 exceeds --max-batch-tokens 8"},
      {"bench", "mea bench: a command is required .*"},
      {"bench everything", "mea bench: .*everything.*"},
      {"bench engine", "mea bench engine: give a checkpoint's directory, or --random-weights .*"},
      {"bench engine nope", "mea bench engine: there is no directory nope, .*"},
      {"bench engine --random-weights /nonexistent",
       "mea bench engine: /nonexistent/config.json.*"},
      {"bench attention /nonexistent", "mea bench attention: /nonexistent/config.json.*"},
      {"bench attention /nonexistent --max-cache-bytes lots",
       "mea bench attention: --max-cache-bytes: 'lots' is not a size.*"},
      {"bench serve --server 127.0.0.1:1", "mea bench serve: no server at 127.0.0.1:1 .*"},
      {"bench serve --openai http://127.0.0.1:1",
       "mea bench serve: no server at http://127.0.0.1:1 .*"},
      {"bench serve --input-tokens 9:3", "mea bench serve: --input-tokens '9:3' is neither .*"},
      {"bench serve --goodput fast", "mea bench serve: --goodput 'fast' is not .*"},
      {"bench serve --arrivals often", "mea bench serve: --arrivals: often not in .*"},
      {"bench serve --prompt-file /nonexistent --server " + taken,
       "mea bench serve: cannot read /nonexistent"},
      {"health --server 127.0.0.1:1", "mea health: no server at 127.0.0.1:1 .*"},
      {"generate --server 127.0.0.1:1 -p hey", "mea generate: no server at 127.0.0.1:1 .*"},
      {"generate --server " + taken, "mea generate: no prompt: .*"},
      {"generate --server " + taken + " -p hey --temperature 3.5",
       "mea generate: INVALID_ARGUMENT: sampling.temperature 3.5 is outside 0..2"},
      {"generate --server " + taken + " -p hey --temperature warm",
       "mea generate: .*temperature.*"},
      {"generate --server " + taken + " -p hey --nonsense", "mea generate: .*--nonsense.*"},
      {"health --server " + taken + " --service no.such.Service", "mea health: NOT_FOUND: .*"},
  };
  for (const auto& [arguments, pattern] : failures) {
    const Outcome outcome = RunMea(arguments);
    EXPECT_GT(outcome.exit_code, 0) << arguments;
    EXPECT_EQ(outcome.out, "") << arguments;
    EXPECT_THAT(outcome.err, MatchesRegex(pattern + "\n")) << arguments;
    EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << arguments;
  }
}

TEST(CliTest, AnAnswerThatBreaksOffEndsItsLine) {
  ServerFixture f({.automatic = false});
  Outcome outcome;
  std::thread client(
      [&] { outcome = RunMea("generate -p hey --server " + f.server->listen_address()); });
  ASSERT_TRUE(f.engine.AwaitInFlight(1));
  f.engine.Step(2);
  f.engine.FailAll(absl::UnavailableError("gone"));
  f.engine.Step();
  client.join();
  // What is not written yet is dropped with a failure.
  EXPECT_THAT(outcome.out, ::testing::AnyOf("", "h\n", "he\n"));
  EXPECT_EQ(outcome.err, "mea generate: UNAVAILABLE: gone\n");
  // No step, no answer.
  EXPECT_EQ(RunMea("generate -p hey --timeout 0.2 --server " + f.server->listen_address()).err,
            "mea generate: DEADLINE_EXCEEDED: " + f.server->listen_address() +
                " was not done within --timeout\n");
}

TEST(CliTest, PlanCountsWhatAGpuThatIsNotHereWouldTake) {
  const std::string plan =
      "plan " MEA_SOURCE_DIR "/models/demo-mea --device cuda --device-memory 100MiB";
  setenv("MEA_CUDA_MODULE", MEA_FAKE_MODULE, 1);
  Outcome outcome = RunMea(plan);
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, AllOf(HasSubstr("memory                              90.00 MiB"),
                                 // What the fake says: the rows and multiprocessors; 256 graphs.
                                 HasSubstr("scratch of the device                2.00 KiB"),
                                 HasSubstr("graphs, estimated                       256 B"),
                                 HasSubstr("tokens that fit"), Not(HasSubstr("not counted"))));
  // Each of two has its memory, and half of the layers.
  outcome =
      RunMea("plan " MEA_SOURCE_DIR "/models/demo-mea --device cuda:2,3 --device-memory 100MiB");
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, AllOf(HasSubstr("memory                             180.00 MiB"),
                                 HasSubstr("GPU 2: "), HasSubstr("GPU 3: "),
                                 HasSubstr("graphs, estimated                       512 B")));
  setenv("MEA_CUDA_MODULE", "/nowhere/module.so", 1);
  outcome = RunMea(plan);
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out,
              AllOf(HasSubstr("tokens that fit"),
                    HasSubstr("not counted: no CUDA module: there is no /nowhere/module.so\n")));
  EXPECT_EQ(RunMea("plan " MEA_SOURCE_DIR "/models/demo-mea --device cuda").err,
            "mea plan: no CUDA device here: --device-memory is required\n");
  unsetenv("MEA_CUDA_MODULE");
}

// A cache for full contexts would take 16 * 2^20 tokens of 2048 bytes.
TEST(CliTest, EvalTakesTheCacheThatItsTextsNeed) {
  const std::string dir = ::testing::TempDir() + "mea_eval_" + std::to_string(getpid());
  std::filesystem::remove_all(dir);
  std::filesystem::copy(MEA_SOURCE_DIR "/models/demo-mea", dir);
  std::string config = ReadFile(dir + "/config.json");
  const std::string context = "\"max_position_embeddings\": 512";
  ASSERT_NE(config.find(context), config.npos);
  config.replace(config.find(context), context.size(), "\"max_position_embeddings\": 1048576");
  std::ofstream(dir + "/config.json") << config;
  std::ofstream(dir + "/text") << "Once upon a time there was a boy.";
  const std::string eval = "eval " + dir + " --text " + dir + "/text";
  Outcome outcome = RunMea(eval + " --kv-cache-bytes 64KiB --max-num-seqs 0 --json");
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  const auto score = nlohmann::json::parse(outcome.out)["texts"][0];
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  // An address space that a larger cache would not fit into.
  outcome = RunMea(eval + " --json", "", "ulimit -v 2000000; ");
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(nlohmann::json::parse(outcome.out)["texts"][0], score);
  EXPECT_THAT(RunMea(eval + " --kv-cache-bytes 32KiB").err,
              HasSubstr("a KV cache of 32.00 KiB is less than the"));
  std::filesystem::remove_all(dir);
}

TEST(CliTest, EvalComparesFormatsOfTheCache) {
  const std::string text = ::testing::TempDir() + "mea_sweep_" + std::to_string(getpid());
  std::ofstream(text) << ReadFile(MEA_SOURCE_DIR "/models/eval/heldout.txt").substr(0, 2000);
  const std::string eval = "eval " MEA_SOURCE_DIR "/models/demo-mea --text " + text;
  Outcome outcome = RunMea(eval + " --kv-sweep=f32,int8 --sweep-tokens 200 --json");
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  const auto rows = nlohmann::json::parse(outcome.out)["rows"];
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_EQ(rows[2]["cache"], "int8");
  EXPECT_GT(rows[2]["kl"], 0);
  EXPECT_EQ(rows[2]["share"], 1088. / 4096);
  // Without formats: those that save bytes, as a table.
  outcome = RunMea(eval + " --sweep-tokens 200 --reference " MEA_SOURCE_DIR
                          "/models/demo-mea-full --kv-sweep");
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, AllOf(HasSubstr("\nreference, bf16 "), HasSubstr("\nint8 ")));

  EXPECT_THAT(RunMea(eval + " --kv-sweep=q8_0").err, HasSubstr("\"q8_0\" is none of bf16, "));
  EXPECT_THAT(RunMea(eval + " --text " + text + " --kv-sweep").err,
              HasSubstr("--kv-sweep compares on one text: --text is given 2 times"));
  EXPECT_THAT(RunMea(eval + " --kv-sweep --kv-dtype int8").err, HasSubstr("--kv-dtype"));
  EXPECT_THAT(RunMea(eval + " --sweep-tokens 9").err, HasSubstr("--kv-sweep"));
  std::filesystem::remove(text);
}

TEST(CliTest, EveryCommandExplainsItselfWithExamples) {
  for (const char* command : {"serve", "generate", "health", "inspect", "plan"}) {
    const Outcome outcome = RunMea(std::string(command) + " --help");
    EXPECT_EQ(outcome.exit_code, 0);
    EXPECT_THAT(outcome.out,
                AllOf(HasSubstr("Examples:"), HasSubstr(std::string("mea ") + command)));
    EXPECT_EQ(outcome.err, "");
  }
  EXPECT_THAT(RunMea("--help").out, HasSubstr("serve"));
  EXPECT_THAT(RunMea("--version").out, MatchesRegex("[0-9.]+(\\+[0-9a-z.]+)?\n"));
}

TEST(CliTest, HealthSaysWhetherTheServerServes) {
  ServerFixture f;
  const std::string flags = " --server " + f.server->listen_address();
  EXPECT_EQ(RunMea("health" + flags).exit_code, 0);
  EXPECT_EQ(RunMea("health --service mea.v1.Control" + flags).out, "SERVING\n");
}

TEST(CliTest, GeneratePrintsTextAndASummaryOfSpeedAndMemory) {
  ServerFixture f;
  f.engine.SetAnswer("hello");
  const std::string server = " --server " + f.server->listen_address();
  for (const char* mode : {"", " --no-stream"}) {
    const Outcome outcome = RunMea("generate -p hey --seed 5" + server + mode);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    EXPECT_EQ(outcome.out, "hello\n");
    EXPECT_THAT(
        outcome.err,
        MatchesRegex("3 prompt \\+ 6 tokens in .* s \\(.* tokens/s.*\\), end of sequence 256; "
                     "KV cache 1.00 KiB, 2.00 KiB uncompressed \\(0.500\\); seed 5\n"));
  }
}

TEST(CliTest, GenerateTakesThePromptFromStandardInput) {
  ServerFixture f;
  EXPECT_EQ(RunMea("generate --server " + f.server->listen_address(), "from a pipe").exit_code, 0);
  EXPECT_EQ(f.engine.last_request().prompt.size(), 11u);
}

TEST(CliTest, GeneratePassesItsFlagsOn) {
  ServerFixture f;
  f.engine.SetAnswer("one two three");
  const Outcome outcome = RunMea(
      "generate -p hey --stop two --stop four --top-k 5 --top-p 0.5 --max-tokens 12 --server " +
      f.server->listen_address());
  EXPECT_EQ(outcome.out, "one \n");
  EXPECT_THAT(outcome.err, HasSubstr("stop string 'two'"));
  const Request seen = f.engine.last_request();
  EXPECT_EQ(seen.sampling.top_k, 5);
  EXPECT_FLOAT_EQ(seen.sampling.top_p, 0.5f);
  EXPECT_EQ(seen.stopping.max_tokens, 12);
}

TEST(CliTest, SeveralCompletionsAreNumberedAndFollowTheEchoedPrompt) {
  ServerFixture f;
  f.engine.SetAnswer("lo");
  const std::string server = " --server " + f.server->listen_address();
  for (const char* mode : {"", " --no-stream"}) {
    const Outcome outcome = RunMea("generate -p hel --n 3 --echo" + server + mode);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    EXPECT_EQ(outcome.out, "[1] hello\n[2] hello\n[3] hello\n");
    EXPECT_THAT(outcome.err, HasSubstr("3 prompt + 9 tokens"));
  }
  EXPECT_THAT(RunMea("generate -p hel --n 17" + server).err,
              MatchesRegex("mea generate: --n: .*17.*16.*\n"));
}

TEST(CliTest, JsonIsOneObjectPerLine) {
  ServerFixture f;
  f.engine.SetAnswer("hello");
  const std::string server = " --server " + f.server->listen_address();
  const Outcome stream = RunMea("generate -p hey --json" + server);
  EXPECT_THAT(stream.out, AllOf(StartsWith("{\"prompt\":"), HasSubstr("\n{\"delta\":"),
                                HasSubstr("\n{\"finish\":"), HasSubstr("\"kv_bytes\":")));
  EXPECT_EQ(stream.err, "");
  const Outcome unary = RunMea("generate -p hey --json --no-stream" + server);
  EXPECT_THAT(unary.out, AllOf(HasSubstr("\"text\":\"hello\""), Not(HasSubstr("\n{"))));
}

}  // namespace
}  // namespace mea::testing
