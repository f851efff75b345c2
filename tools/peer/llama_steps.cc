// Times single steps of llama.cpp or ik_llama.cpp, as their own llama-bench does: llama_decode and
// llama_synchronize, nothing else. tools/bench_peer builds it against a tree of either and asks it,
// line by line, what `mea bench engine --paced` is asked:
//
//   llama_steps MODEL.gguf THREADS FLASH_ATTENTION REPACK CACHE_TYPE ROUND_SECONDS STATE_DIR
//
// where FLASH_ATTENTION and REPACK are 0 or 1.
// A line "BATCH CONTEXT TOKENS" is answered by {"seconds": S}, the time of a step of TOKENS rows of
// each of BATCH sequences that see CONTEXT tokens, or by {"error": TEXT}, its last word. A cache of
// some depth is filled once by llama.cpp's own prompt processing and kept in STATE_DIR, where later
// runs find it: what it holds does not change the time.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "llama_api.h"

namespace {

using Seconds = std::chrono::duration<double>;

using api::kMicroBatch;

constexpr int kWarmUpRuns = 3;  // as engine/bench/rounds.cc
constexpr int kMostRuns = 10000;

[[noreturn]] void Fail(const std::string& what) {
  std::cout << "{\"error\": \"" << what << "\"}" << std::endl;
  std::exit(1);
}

int RoundUp(int value) {
  return (value + api::kCellMultiple - 1) / api::kCellMultiple * api::kCellMultiple;
}

ggml_type ParseType(const std::string& name) {
  const std::map<std::string, ggml_type> types = {{"f32", GGML_TYPE_F32},
                                                  {"f16", GGML_TYPE_F16},
                                                  {"bf16", GGML_TYPE_BF16},
                                                  {"q8_0", GGML_TYPE_Q8_0}};
  const auto found = types.find(name);
  if (found == types.end()) Fail("no cache type " + name);
  return found->second;
}

struct Options {
  std::string model;
  int num_threads;
  bool flash_attention;
  bool repack;
  ggml_type cache_type;
  double round_seconds;
  std::string state_dir;
};

// Sequences of one capacity, each with a cache of its own.
class Sequences {
 public:
  Sequences(llama_model* model, const api::Threads& threads, const Options& options, int count,
            int capacity)
      : count_(count),
        capacity_(RoundUp(capacity)),
        num_tokens_(llama_vocab_n_tokens(llama_model_get_vocab(model))),
        batch_(llama_batch_init(std::max(kMicroBatch, count), 0, 1)) {
    llama_context_params params = llama_context_default_params();
    api::Describe(params, count_, capacity_, options.flash_attention);
    params.n_batch = params.n_ubatch = std::max(kMicroBatch, count);
    params.n_seq_max = count_;
    params.n_threads = params.n_threads_batch = options.num_threads;
    params.type_k = params.type_v = options.cache_type;
    context_ = llama_init_from_model(model, params);
    if (context_ == nullptr) Fail("no context of this size");
    threads.Attach(context_);
  }
  ~Sequences() {
    llama_batch_free(batch_);
    llama_free(context_);
  }
  Sequences(const Sequences&) = delete;
  Sequences& operator=(const Sequences&) = delete;

  bool Holds(int count, int capacity) const {
    return count == count_ && RoundUp(capacity) == capacity_;
  }

  // `state` is a sequence saved by a context of one.
  bool Restore(std::vector<uint8_t> state) {
    return api::RestoreAll(context_, std::move(state), count_);
  }
  std::vector<uint8_t> Save() { return api::Save(context_, 0); }
  // Forgets all from this position on.
  void Trim(int position) {
    for (int s = 0; s < count_; ++s) api::Forget(context_, s, position);
  }

  // Computes `tokens` rows of every sequence behind `depth` tokens; logits of the last ones.
  Seconds Step(int depth, int tokens) {
    batch_.n_tokens = 0;
    for (int s = 0; s < count_; ++s) {
      for (int i = 0; i < tokens; ++i) {
        const int row = batch_.n_tokens++;
        batch_.token[row] = std::rand() % num_tokens_;
        batch_.pos[row] = depth + i;
        batch_.n_seq_id[row] = 1;
        batch_.seq_id[row][0] = s;
        batch_.logits[row] = i + 1 == tokens;
      }
    }
    const auto start = std::chrono::steady_clock::now();
    const int result = llama_decode(context_, batch_);
    llama_synchronize(context_);
    const Seconds took = std::chrono::steady_clock::now() - start;
    if (result != 0) Fail("llama_decode: " + std::to_string(result));
    return took;
  }

 private:
  const int count_;
  const int capacity_;  // tokens of each
  const int num_tokens_;
  llama_context* context_ = nullptr;
  llama_batch batch_;
};

class Peer {
 public:
  explicit Peer(const Options& options) : options_(options), threads_(options.num_threads) {
    llama_model_params params = llama_model_default_params();
    if (!api::Repack(params, options.repack)) Fail("it cannot be asked to repack weights");
    model_ = llama_model_load_from_file(options.model.c_str(), params);
    if (model_ == nullptr) Fail("cannot load " + options.model);
  }
  ~Peer() {
    sequences_.reset();
    api::FreeModel(model_);
  }

  // Seconds of one step, averaged over those that fill a round.
  double Measure(int batch, int context, int tokens) {
    if (batch < 1 || tokens < 1 || context < tokens || batch * tokens > kMicroBatch) {
      Fail("no such point");
    }
    const int depth = context - tokens;
    Place(batch, context, depth);
    double seconds = 0;
    for (int i = 0; i < kWarmUpRuns; ++i) {
      seconds = Once(depth, tokens);
      if (i == 0 && seconds > options_.round_seconds) break;
    }
    const int runs =
        static_cast<int>(std::clamp(options_.round_seconds / seconds, 1.0, double(kMostRuns)));
    double sum = 0;
    for (int i = 0; i < runs; ++i) sum += Once(depth, tokens);
    return sum / runs;
  }

 private:
  double Once(int depth, int tokens) {
    const double seconds = sequences_->Step(depth, tokens).count();
    sequences_->Trim(depth);
    return seconds;
  }

  // Sequences of this depth with room for `context` tokens.
  void Place(int batch, int context, int depth) {
    if (sequences_ != nullptr && sequences_->Holds(batch, context) && depth_ == depth) return;
    if (depth > 0) Fill(RoundUp(depth));
    sequences_.reset();  // before the next is allocated
    sequences_ = std::make_unique<Sequences>(model_, threads_, options_, batch, context);
    if (depth > 0 && !sequences_->Restore(states_.at(RoundUp(depth)))) {
      Fail("the state of a filled cache does not fit");
    }
    sequences_->Trim(depth);
    depth_ = depth;
  }

  // Makes the state of a sequence of this depth, from the deepest one that is there.
  void Fill(int depth) {
    if (states_.contains(depth)) return;
    Sequences one(model_, threads_, options_, 1, depth);
    const std::string file = options_.state_dir + "/depth-" + std::to_string(depth);
    if (std::ifstream in(file, std::ios::binary); in) {
      std::vector<uint8_t> state{std::istreambuf_iterator<char>(in), {}};
      if (one.Restore(state)) {
        states_[depth] = std::move(state);
        return;
      }
      one.Trim(0);
    }
    int filled = 0;
    const auto deeper = states_.lower_bound(depth);
    if (deeper != states_.begin() && one.Restore(std::prev(deeper)->second)) {
      filled = std::prev(deeper)->first;
    }
    while (filled < depth) {
      const int tokens = std::min(kMicroBatch, depth - filled);
      one.Step(filled, tokens);
      filled += tokens;
    }
    std::vector<uint8_t>& state = states_[depth] = one.Save();
    std::ofstream(file, std::ios::binary)
        .write(reinterpret_cast<const char*>(state.data()), static_cast<int64_t>(state.size()));
  }

  const Options options_;
  const api::Threads threads_;
  llama_model* model_ = nullptr;
  std::map<int, std::vector<uint8_t>> states_;  // by depth
  std::unique_ptr<Sequences> sequences_;        // of the last point
  int depth_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 8) {
    std::fprintf(stderr, "llama_steps: seven arguments are needed, see its source\n");
    return 2;
  }
  llama_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
  llama_backend_init();
  std::cout.precision(9);
  Peer peer({.model = argv[1],
             .num_threads = std::atoi(argv[2]),
             .flash_attention = std::string(argv[3]) == "1",
             .repack = std::string(argv[4]) == "1",
             .cache_type = ParseType(argv[5]),
             .round_seconds = std::atof(argv[6]),
             .state_dir = argv[7]});
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    int batch = 0, context = 0, tokens = 0;
    words >> batch >> context >> tokens;
    const double seconds = peer.Measure(batch, context, tokens);
    std::cout << "{\"seconds\": " << seconds << "}" << std::endl;
  }
  return 0;
}
