// Runs every file of tests/engine/traces: who arrives when, and what each step then computes. The
// format is told in traces/README.md.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <sstream>

#include "tests/engine/scheduler_harness.h"

namespace mea::testing {
namespace {

namespace fs = std::filesystem;

using Settings = std::map<std::string, std::string>;  // of "key=value" words

fs::path TraceDir() { return fs::path(MEA_SOURCE_DIR) / "tests/engine/traces"; }

class Trace {
 public:
  // Runs one line; what is wrong with it, or nothing.
  std::string Run(const std::string& line) {
    std::istringstream words(line.substr(0, line.find('#')));
    std::string command;
    if (!(words >> command)) return "";
    if (command == "scheduler") return Create(ReadSettings(words));
    if (!harness_) return "the first line is not 'scheduler ...'";
    if (command == "add") return Add(words);
    if (command == "cancel") return Cancel(words);
    if (command == "step") return Step(words);
    if (command == "state") return CheckState(ReadSettings(words));
    return "unknown command '" + command + "'";
  }

 private:
  static Settings ReadSettings(std::istringstream& words) {
    Settings settings;
    for (std::string word; words >> word;) {
      const size_t equals = word.find('=');
      settings[word.substr(0, equals)] = equals == std::string::npos ? "" : word.substr(equals + 1);
    }
    return settings;
  }
  // Takes the setting out of `settings`.
  static int Take(Settings& settings, const std::string& key, int otherwise) {
    const auto setting = settings.extract(key);
    return setting.empty() ? otherwise : std::stoi(setting.mapped());
  }
  static std::string Leftover(const Settings& settings) {
    return settings.empty() ? "" : "unknown setting '" + settings.begin()->first + "'";
  }

  std::string Create(Settings settings) {
    const int pages = Take(settings, "pages", 0);
    const SchedulerLimits limits{.max_num_seqs = Take(settings, "seqs", 8),
                                 .max_batch_tokens = Take(settings, "budget", 64),
                                 .steps_per_priority = Take(settings, "steps_per_priority", 256)};
    const bool prefix_cache = Take(settings, "prefix_cache", 0) != 0;
    if (pages == 0) return "no pages";
    harness_.emplace(pages, limits, prefix_cache);
    return Leftover(settings);
  }

  std::string Add(std::istringstream& words) {
    std::string id;
    words >> id;
    Settings settings = ReadSettings(words);
    Request request{.id = id};
    const int length = Take(settings, "prompt", 0);
    if (length == 0) return "no prompt";
    request.stopping.max_tokens = Take(settings, "output", 1 << 20);
    request.priority = Take(settings, "priority", 0);
    const int shared = Take(settings, "shared", 0);
    const int n = Take(settings, "n", 1);
    for (int i = 0; i < length; ++i) {
      request.prompt.push_back(i < shared ? i : 1000 * (num_added_ + 1) + i);
    }
    ++num_added_;
    const std::vector<Sequence*> added = harness_->AddAll(std::move(request), n);
    for (int i = 0; i < n; ++i) names_[added[i]] = n == 1 ? id : id + "." + std::to_string(i);
    return Leftover(settings);
  }

  std::string Cancel(std::istringstream& words) {
    std::string id;
    words >> id;
    for (Sequence* sequence : harness_->alive()) {
      if (names_.at(sequence) != id) continue;
      harness_->Remove(sequence);
      return "";
    }
    return "no '" + id + "' to cancel";
  }

  std::string Step(std::istringstream& words) {
    std::string expected, computed;
    for (std::string word; words >> word;) expected += " " + word;
    const Schedule schedule = harness_->scheduler().Next();
    for (const ScheduledChunk& chunk : schedule) {
      computed += " " + names_.at(chunk.sequence) + ":" + std::to_string(chunk.num_tokens);
    }
    harness_->Run(schedule);
    return computed == expected ? "" : "computed" + computed;
  }

  std::string CheckState(const Settings& expected) {
    const Scheduler& scheduler = harness_->scheduler();
    const KvCacheStats kv = harness_->kv().stats();
    const std::map<std::string, int64_t> state = {{"running", scheduler.num_running()},
                                                  {"waiting", scheduler.num_waiting()},
                                                  {"used", kv.used_pages},
                                                  {"cached", kv.cached_pages},
                                                  {"free", kv.free_pages},
                                                  {"preemptions", scheduler.num_preemptions()}};
    for (const auto& [key, value] : expected) {
      const auto it = state.find(key);
      if (it == state.end()) return "unknown state '" + key + "'";
      if (std::to_string(it->second) != value) return key + " is " + std::to_string(it->second);
    }
    return "";
  }

  std::optional<SchedulerHarness> harness_;
  std::map<const Sequence*, std::string> names_;
  int num_added_ = 0;
};

class SchedulerTraceTest : public ::testing::TestWithParam<std::string> {};

TEST_P(SchedulerTraceTest, StepsComputeWhatIsWritten) {
  const fs::path path = TraceDir() / (GetParam() + ".txt");
  std::ifstream file(path);
  ASSERT_TRUE(file.is_open());
  Trace trace;
  std::string line;
  for (int number = 1; std::getline(file, line); ++number) {
    const std::string complaint = trace.Run(line);
    ASSERT_EQ(complaint, "") << path.string() << ":" << number << ": " << line;
  }
}

std::vector<std::string> TraceNames() {
  std::vector<std::string> names;
  for (const fs::directory_entry& entry : fs::directory_iterator(TraceDir())) {
    if (entry.path().extension() == ".txt") names.push_back(entry.path().stem().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

INSTANTIATE_TEST_SUITE_P(Traces, SchedulerTraceTest, ::testing::ValuesIn(TraceNames()),
                         [](const auto& name) { return name.param; });

TEST(SchedulerTraceFormatTest, ATraceThatSaysSomethingElseFails) {
  Trace trace;
  EXPECT_EQ(trace.Run("step"), "the first line is not 'scheduler ...'");
  EXPECT_EQ(trace.Run("scheduler pages=4 budget=8 seqs=2"), "");
  EXPECT_EQ(trace.Run("add a prompt=12 output=2 colour=1"), "unknown setting 'colour'");
  EXPECT_EQ(trace.Run("step a:7"), "computed a:8");
  EXPECT_EQ(trace.Run("state running=1 used=2"), "used is 1");
  EXPECT_EQ(trace.Run("cancel b"), "no 'b' to cancel");
  EXPECT_EQ(trace.Run("stop"), "unknown command 'stop'");
  EXPECT_EQ(trace.Run("  # nothing"), "");
}

}  // namespace
}  // namespace mea::testing
