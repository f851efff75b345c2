#pragma once

#include <condition_variable>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/grammar/grammar.h"
#include "engine/text/text_work.h"

namespace mea {

class Tokenizer;
namespace grammar {
class XgrammarLibrary;
}

// Compiles the grammars that clients ask for, over one vocabulary, and keeps the last used ones.
// Thread-safe. A call compiles in its own thread, within the bounds of README.md. A call for a
// grammar that another thread is compiling waits for it, and compiles it itself if the other call
// gives up.
class GrammarCompiler {
 public:
  struct Options {
    int64_t cache_bytes = 256 << 20;  // of compiled grammars that no request needs to hold
    // Special tokens that still stand for their text: what a model writes around its calls.
    std::vector<int32_t> spelled_tokens;
  };
  struct Stats {
    int64_t compiled = 0;
    int64_t found = 0;  // in the cache, or being compiled
    int64_t cached_bytes = 0;
  };

  // Copies what it needs from the tokenizer. Other special tokens, and ids without a token up to
  // `vocab_size`, stand for no text: a grammar allows them only as stop tokens.
  static absl::StatusOr<std::unique_ptr<GrammarCompiler>> Create(const Tokenizer& tokenizer,
                                                                 int vocab_size, Options options);
  static absl::StatusOr<std::unique_ptr<GrammarCompiler>> Create(const Tokenizer& tokenizer,
                                                                 int vocab_size) {
    return Create(tokenizer, vocab_size, Options{});
  }
  // Of tokens that stand for these bytes; empty: for no text.
  static absl::StatusOr<std::unique_ptr<GrammarCompiler>> OfVocabulary(
      const std::vector<std::string>& vocabulary, int vocab_size, Options options);
  ~GrammarCompiler();

  // INVALID_ARGUMENT with one line that names what is not supported or out of bounds; or the error
  // of `still_wanted`, which is called every few milliseconds.
  absl::StatusOr<std::shared_ptr<const Grammar>> Compile(
      const GrammarSpec& spec, StillWanted still_wanted = [] { return absl::OkStatus(); });
  // A cached grammar; null if it must be compiled.
  std::shared_ptr<const Grammar> Find(const GrammarSpec& spec);
  Stats stats() const;

 private:
  struct Entry {
    std::string key;
    std::shared_ptr<const Grammar> grammar;
    int64_t bytes = 0;
  };
  // A grammar that somebody is compiling.
  struct UnderWay {
    bool is_done = false;
    bool is_abandoned = false;  // its compiling call gave up
    absl::StatusOr<std::shared_ptr<const Grammar>> grammar = absl::UnknownError("");
  };

  GrammarCompiler(std::unique_ptr<grammar::XgrammarLibrary> library, Options options);
  void Keep(std::string key, const std::shared_ptr<const Grammar>& grammar);

  const std::unique_ptr<grammar::XgrammarLibrary> library_;
  const Options options_;
  // Guards all below.
  mutable std::mutex mutex_;
  std::condition_variable compiled_;  // a grammar is no longer being compiled
  std::list<Entry> cache_;            // the last used first
  std::unordered_map<std::string, std::list<Entry>::iterator> cached_;
  std::unordered_map<std::string, std::shared_ptr<UnderWay>> under_way_;
  Stats stats_;
};

}  // namespace mea
