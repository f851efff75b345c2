// Times single steps of llama.cpp, as its own llama-bench does: llama_decode and
// llama_synchronize, nothing else. tools/bench_peer builds it against a tree of llama.cpp and asks
// it, line by line, what `mea bench engine --paced` is asked:
//
//   llama_steps MODEL.gguf THREADS FLASH_ATTENTION(0|1) CACHE_TYPE ROUND_SECONDS STATE_DIR
//
// A line "BATCH CONTEXT TOKENS" is answered by {"seconds": S}, the time of a step of TOKENS rows of
// each of BATCH sequences that see CONTEXT tokens, or by {"error": TEXT}, its last word. A cache of
// some depth is filled once by llama.cpp's own prompt processing and kept in STATE_DIR, where later
// runs find it: what it holds does not change the time.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "ggml-cpu.h"
#include "llama.h"

namespace {

using Seconds = std::chrono::duration<double>;

constexpr int kCellMultiple = 256;  // llama.cpp sees its cache in pieces of so many tokens
constexpr int kMicroBatch = 512;    // rows that it computes at once by default
constexpr int kWarmUpRuns = 3;      // as engine/bench/rounds.cc
constexpr int kMostRuns = 10000;

[[noreturn]] void Fail(const std::string& what) {
  std::cout << "{\"error\": \"" << what << "\"}" << std::endl;
  std::exit(1);
}

int RoundUp(int value) { return (value + kCellMultiple - 1) / kCellMultiple * kCellMultiple; }

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
  ggml_type cache_type;
  double round_seconds;
  std::string state_dir;
};

// Sequences of one capacity, each with a cache of its own.
class Sequences {
 public:
  Sequences(llama_model* model, ggml_threadpool* threads, const Options& options, int count,
            int capacity)
      : count_(count),
        capacity_(RoundUp(capacity)),
        num_tokens_(llama_vocab_n_tokens(llama_model_get_vocab(model))),
        batch_(llama_batch_init(std::max(kMicroBatch, count), 0, 1)) {
    llama_context_params params = llama_context_default_params();
    params.n_ctx = count_ * capacity_;
    params.n_batch = params.n_ubatch = std::max(kMicroBatch, count);
    params.n_seq_max = count_;
    params.n_threads = params.n_threads_batch = options.num_threads;
    params.flash_attn_type =
        options.flash_attention ? LLAMA_FLASH_ATTN_TYPE_ENABLED : LLAMA_FLASH_ATTN_TYPE_DISABLED;
    params.type_k = params.type_v = options.cache_type;
    params.kv_unified = false;  // one cache for all makes every sequence look at all cells
    context_ = llama_init_from_model(model, params);
    if (context_ == nullptr) Fail("no context of this size");
    llama_attach_threadpool(context_, threads, nullptr);
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
    // Behind a magic number and a sequence id stands for how many sequences the context has caches,
    // then the cells of each: of one here, none of the others.
    constexpr size_t kCountAt = 8;
    const uint32_t count = count_;
    if (state.size() < kCountAt + sizeof(count)) return false;
    std::memcpy(state.data() + kCountAt, &count, sizeof(count));
    state.resize(state.size() + (count - 1) * sizeof(uint32_t), 0);
    for (int s = 0; s < count_; ++s) {
      if (llama_state_seq_set_data(context_, state.data(), state.size(), s) == 0) return false;
    }
    return true;
  }
  std::vector<uint8_t> Save() {
    std::vector<uint8_t> state(llama_state_seq_get_size(context_, 0));
    state.resize(llama_state_seq_get_data(context_, state.data(), state.size(), 0));
    return state;
  }
  // Forgets all from this position on.
  void Trim(int position) {
    for (int s = 0; s < count_; ++s) {
      llama_memory_seq_rm(llama_get_memory(context_), s, position, -1);
    }
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
  explicit Peer(const Options& options) : options_(options) {
    model_ = llama_model_load_from_file(options.model.c_str(), llama_model_default_params());
    if (model_ == nullptr) Fail("cannot load " + options.model);
    ggml_threadpool_params threads = ggml_threadpool_params_default(options.num_threads);
    threads_ = ggml_threadpool_new(&threads);
  }
  ~Peer() {
    sequences_.reset();
    ggml_threadpool_free(threads_);
    llama_model_free(model_);
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
  llama_model* model_ = nullptr;
  ggml_threadpool* threads_ = nullptr;
  std::map<int, std::vector<uint8_t>> states_;  // by depth
  std::unique_ptr<Sequences> sequences_;        // of the last point
  int depth_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 7) {
    std::fprintf(stderr, "llama_steps: six arguments are needed, see its source\n");
    return 2;
  }
  llama_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
  llama_backend_init();
  std::cout.precision(9);
  Peer peer({.model = argv[1],
             .num_threads = std::atoi(argv[2]),
             .flash_attention = std::string(argv[3]) == "1",
             .cache_type = ParseType(argv[4]),
             .round_seconds = std::atof(argv[5]),
             .state_dir = argv[6]});
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    int batch = 0, context = 0, tokens = 0;
    words >> batch >> context >> tokens;
    const double seconds = peer.Measure(batch, context, tokens);
    std::cout << "{\"seconds\": " << seconds << "}" << std::endl;
  }
  return 0;
}
