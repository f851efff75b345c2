// What the program says to those who use it for the first time, or wrongly.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "tests/server/run_mea.h"
#include "tests/server/server_fixture.h"

namespace mea::testing {
namespace {

using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::StartsWith;

TEST(UsageTest, FlagsOfOtherServersAreAnsweredWithOurs) {
  const std::vector<std::pair<std::string, std::string>> answers = {
      {"serve DIR --max-model-len 4096",
       "--max-model-len is no flag of mea serve: use --max-context"},
      {"serve DIR --max-model-len=4096",
       "--max-model-len is no flag of mea serve: use --max-context"},
      {"serve DIR -c 4096", "-c is no flag of mea serve: use --max-context"},
      // Its value is taken for the directory.
      {"serve --port 8000 DIR",
       "--port is no flag of mea serve: use --http HOST:PORT (OpenAI API) and --listen HOST:PORT "
       "(gRPC)"},
      {"serve -m DIR",
       "-m is no flag of mea serve: give the checkpoint's directory as the argument"},
      {"serve DIR -ngl 99", "-ngl is no flag of mea serve: use --device cuda; it takes all layers"},
      {"serve DIR -tp 2",
       "-tp is no flag of mea serve: use --device cuda:0,1; each GPU gets some of the layers"},
      {"serve DIR --served-model-name x",
       "--served-model-name is no flag of mea serve: use --model-name"},
      {"serve DIR --otlp-traces-endpoint http://h:4317",
       "--otlp-traces-endpoint is no flag of mea serve: use --otlp-traces http://HOST:4317"},
      {"plan DIR --ctx-size 1", "--ctx-size is no flag of mea plan: use --context"},
      {"generate --max-new-tokens 5",
       "--max-new-tokens is no flag of mea generate: use --max-tokens"},
      {"chat --system-prompt x", "--system-prompt is no flag of mea chat: use --system"},
  };
  for (const auto& [arguments, answer] : answers) {
    const Outcome outcome = RunMea(arguments);
    EXPECT_EQ(outcome.exit_code, 2) << arguments;
    EXPECT_THAT(outcome.err, MatchesRegex("mea [a-z]+: .*\n")) << arguments;
    EXPECT_THAT(outcome.err, HasSubstr(": " + answer + "\n")) << arguments;
  }
}

TEST(UsageTest, AnUnknownFlagBringsTheNearestOne) {
  const std::vector<std::pair<std::string, std::string>> answers = {
      {"serve DIR --max_context 5", ": did you mean --max-context?"},
      {"serve DIR --kv-dtyp f32", ": did you mean --kv-dtype?"},
      {"serve DIR --kv-cache 1GiB", ": did you mean --kv-cache-bytes?"},
      {"generate --temp 0", ": did you mean --temperature?"},
      {"bench engine --rouds 2", ": did you mean --rounds?"},
      {"serve DIR --frobnicate", " (see mea serve --help)"},
      {"serve DIR --" + std::string(5000, 'x'), " (see mea serve --help)"},
  };
  for (const auto& [arguments, answer] : answers) {
    const Outcome outcome = RunMea(arguments);
    EXPECT_EQ(outcome.exit_code, 2) << arguments;
    EXPECT_THAT(outcome.err, EndsWith(answer + "\n")) << arguments;
  }
}

TEST(UsageTest, CommandsOfOtherProgramsAreAnsweredWithOurs) {
  const std::vector<std::pair<std::string, std::string>> answers = {
      {"run DIR",
       "mea: 'run' is no command of mea: mea serve DIR serves a checkpoint, mea chat "
       "talks to it"},
      {"server --port 1", "mea: 'server' is no command of mea: mea serve DIR serves .*"},
      {"pull org/model", "mea: 'pull' is no command of mea: mea downloads nothing; hf download .*"},
      {"list", "mea: 'list' is no command of mea: mea keeps no list of models; .*"},
      {"generat -p x", "mea: 'generat' is no command of mea: did you mean mea generate\\?"},
      {"frobnicate", "mea: 'frobnicate' is no command of mea \\(see mea --help\\)"},
      {"bench engin",
       "mea bench: 'engin' is no command of mea bench: did you mean mea bench "
       "engine\\?"},
      {"bench run", "mea bench: 'run' is no command of mea bench \\(see mea bench --help\\)"},
      {MEA_SOURCE_DIR "/models/demo-mea",
       "mea: a command is required: mea serve .*/demo-mea serves the checkpoint there"},
  };
  for (const auto& [arguments, answer] : answers) {
    const Outcome outcome = RunMea(arguments);
    EXPECT_EQ(outcome.exit_code, 2) << arguments;
    EXPECT_THAT(outcome.err, MatchesRegex(answer + "\n")) << arguments;
  }
}

TEST(UsageTest, ANumberOutOfRangeIsToldWithFlagValueAndBound) {
  const std::vector<std::pair<std::string, std::string>> answers = {
      {"serve DIR --threads -1", "mea serve: --threads: -1 is outside 0..1024 "},
      {"serve DIR --max-context -1", "mea serve: --max-context: -1 is outside 0..1073741824 "},
      {"serve DIR --page-size x", "mea serve: --page-size: 'x' is not an integer in 0..1024 "},
      {"serve DIR --drain-timeout -1", "mea serve: --drain-timeout: -1 is outside 0..86400 "},
      {"bench engine DIR --threads 2000", "mea bench engine: --threads: 2000 is outside 0..1024 "},
      {"key new a --requests-per-minute 0",
       "mea key new: --requests-per-minute: 0 is outside 1..1125899906842624 "},
  };
  for (const auto& [arguments, answer] : answers) {
    const Outcome outcome = RunMea(arguments);
    EXPECT_EQ(outcome.exit_code, 2) << arguments;
    EXPECT_THAT(outcome.err, StartsWith(answer)) << arguments;
  }
}

TEST(UsageTest, SizesAreTakenInEveryUsualSpelling) {
  const std::string plan = "plan --device cpu " MEA_SOURCE_DIR "/models/demo-mea --memory ";
  for (const char* size : {"4GiB", "4Gi", "4G", "4g", "4096M", "4096MiB", "4294967296"}) {
    EXPECT_THAT(RunMea(plan + size).out, HasSubstr("4.00 GiB")) << size;
  }
  EXPECT_THAT(RunMea(plan + "4GB").out, HasSubstr("3.73 GiB"));
  for (const char* bad : {"4iB", "4Gib/s", "G", "four", "-4G", "4E"}) {
    EXPECT_EQ(RunMea(plan + bad).err,
              "mea plan: --memory: '" + std::string(bad) +
                  "' is not a size such as 512MiB, 4GiB, 4Gi, 4G or 4GB (see mea plan --help)\n");
  }
}

TEST(UsageTest, HelpShowsNoInnardsOfItsParser) {
  for (const char* command :
       {"", "serve", "generate", "chat", "health", "inspect", "plan", "eval", "convert", "bench",
        "bench engine", "bench ops", "bench attention", "bench serve", "key", "key new"}) {
    const Outcome outcome = RunMea(std::string(command) + " --help");
    EXPECT_EQ(outcome.exit_code, 0) << command;
    for (const char* innards : {"{false}", "{one-hot}", "REQUIRED", ":INT", ":FLOAT", "TEXT:"}) {
      EXPECT_THAT(outcome.out, ::testing::Not(HasSubstr(innards))) << command;
    }
  }
  EXPECT_THAT(RunMea("serve --help").out, HasSubstr("  model DIR                       Checkpoint "
                                                    "directory, required\n"));
}

TEST(UsageTest, ANewKeyGoesIntoAFileAndItsTokenToStdout) {
  const std::string file = ::testing::TempDir() + "mea_keys_" + std::to_string(getpid());
  std::ofstream(file) << "# keys";  // without an end
  const std::string to_file = " --api-key-file " + file;
  const Outcome made = RunMea("key new alice" + to_file);
  EXPECT_THAT(made.out, MatchesRegex("mea-[A-Za-z0-9_-]+\n")) << made.err;
  EXPECT_THAT(made.err,
              AllOf(StartsWith(file + " has a new line for alice, and this is the token."),
                    HasSubstr("MEA_API_KEY")));
  EXPECT_EQ(RunMea("key new bob" + to_file).exit_code, 0);
  EXPECT_EQ(RunMea("key new alice" + to_file).err,
            "mea key new: " + file + ": line 4: name 'alice' was there before\n");
  EXPECT_THAT(ReadFile(file), MatchesRegex("# keys\n\\{\"name\":\"alice\",.*\n.*\"bob\".*\n"));
  // The other way round: the line to stdout, for >>.
  const Outcome line = RunMea("key new carol");
  EXPECT_THAT(line.out, MatchesRegex("\\{\"name\":\"carol\",[^\n]*\n"));
  EXPECT_THAT(line.err, MatchesRegex("mea-[A-Za-z0-9_-]+\nThis is the token of carol. .*"
                                     "--api-key-file.\n"));
  std::filesystem::remove(file);
}

TEST(UsageTest, PlanSaysWhatServeTakesByDefault) {
  const std::string plan = "plan --device cpu " MEA_SOURCE_DIR "/models/demo-mea --memory ";
  const Outcome outcome = RunMea(plan + "240MiB");
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  // A quarter of the memory.
  EXPECT_THAT(outcome.out, EndsWith("mea serve takes 60.00 MiB for the cache (30720 tokens, 60 "
                                    "sequences of 512) unless --kv-cache-bytes says otherwise\n"));
}

TEST(UsageTest, PlanFailsWhereNothingFits) {
  const Outcome outcome =
      RunMea("plan --device cpu " MEA_SOURCE_DIR "/models/demo-mea --memory 1MiB");
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_EQ(outcome.out, "");
  EXPECT_THAT(outcome.err, MatchesRegex("mea plan: weights of [0-9.]+ MiB, .* leave none of the "
                                        "1.00 MiB available .*\n"));
}

TEST(UsageTest, InspectShowsWhatIsAboutText) {
  const std::string model = ::testing::TempDir() + "mea_inspect_" + std::to_string(getpid());
  std::filesystem::copy(MEA_SOURCE_DIR "/models/demo-mea", model);
  const std::string tokenizer =
      "tokenizer      byte-level BPE, 1009 tokens, 1 of them special\n"
      "special tokens bos_token <|endoftext|> (0), eos_token <|endoftext|> (0), pad_token "
      "<|endoftext|> (0)\n"
      "ends with      <|endoftext|> (0)\n";
  EXPECT_THAT(RunMea("inspect " + model).out,
              StartsWith(tokenizer + "chat template  none; mea serve --chat-template FILE gives "
                                     "one\narchitecture "));
  std::filesystem::copy(MEA_SOURCE_DIR "/tests/clients/chat_template.jinja",
                        model + "/chat_template.jinja");
  std::filesystem::create_directory(model + "/additional_chat_templates");
  std::ofstream(model + "/additional_chat_templates/rag.jinja") << "{{ messages }}";
  EXPECT_THAT(RunMea("inspect " + model).out,
              StartsWith(tokenizer + "chat template  chat_template.jinja; rag: "
                                     "additional_chat_templates/rag.jinja\n"
                                     "tool calls     hermes\nreasoning      none\narchitecture "));
  std::ofstream(model + "/chat_template.jinja") << "{% if %}";
  std::filesystem::remove(model + "/tokenizer.json");
  const Outcome broken = RunMea("inspect " + model);
  EXPECT_EQ(broken.exit_code, 0) << broken.err;
  EXPECT_THAT(broken.out, AllOf(HasSubstr("tokenizer      cannot be served: "),
                                HasSubstr("chat template  cannot be served: ")));
  std::filesystem::remove_all(model);
}

TEST(UsageTest, ADirectoryThatIsNotThereBringsHowToGetAModel) {
  for (const char* command : {"serve --listen 127.0.0.1:0 --http off --admin off", "inspect",
                              "plan --device cpu", "eval --text /dev/null"}) {
    EXPECT_THAT(RunMea(std::string(command) + " Some-Org/a.model").err,
                EndsWith(": there is no directory Some-Org/a.model, and mea downloads "
                         "nothing; hf download Some-Org/a.model --local-dir a.model "
                         "gets a model\n"))
        << command;
    EXPECT_THAT(RunMea(std::string(command) + " /no/such/model").err,
                HasSubstr("; hf download ORG/NAME --local-dir NAME gets a model\n"))
        << command;
  }
  EXPECT_THAT(RunMea("inspect " MEA_SOURCE_DIR "/README.md").err,
              HasSubstr("README.md is not a directory; mea reads checkpoints as Hugging Face"));
}

TEST(UsageTest, ClientsSayWhatIsWrongInPlainWords) {
  ServerFixture f;
  const std::string server = " --server " + f.server->listen_address();
  EXPECT_EQ(RunMea("generate -p hey --server 127.0.0.1:1").err,
            "mea generate: no server at 127.0.0.1:1 (Connection refused)\n");
  EXPECT_EQ(
      RunMea("generate -p hey --server " + f.server->http_address()).err,
      "mea generate: no server at " + f.server->http_address() +
          " (it speaks HTTP: give the gRPC address, that of serve's --listen; 50051 by default)\n");
  for (const char* command : {"generate -p hey", "chat", "health", "bench serve"}) {
    EXPECT_THAT(RunMea(std::string(command) + " --server http://127.0.0.1:8000/v1").err,
                EndsWith(": --server http://127.0.0.1:8000/v1 is a URL, and this command speaks "
                         "gRPC: give the HOST:PORT of serve's --listen; 127.0.0.1:50051 by "
                         "default\n"));
  }
  EXPECT_THAT(RunMea("generate -p hey --server no.such.host.invalid:1").err,
              MatchesRegex("mea generate: no server at no.such.host.invalid:1 \\([^:()]*\\)\n"));
  for (const char* command : {"generate -p hey", "chat"}) {
    EXPECT_THAT(RunMea(command + (" --model other" + server)).err,
                EndsWith(": NOT_FOUND: model 'other' is not served; 'fake' is\n"));
  }
}

}  // namespace
}  // namespace mea::testing
