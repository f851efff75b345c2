#include "engine/grammar/grammar_compiler.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/grammar/prepare.h"
#include "engine/grammar/xgrammar_library.h"
#include "engine/text/tokenizer.h"
#include "kernels/status_macros.h"

namespace mea {
namespace {

// How often to ask whether a grammar that another thread compiles is still wanted.
constexpr std::chrono::milliseconds kPatience(10);

// Equal only for equal specs.
std::string KeyOf(const GrammarSpec& spec) {
  std::string key =
      absl::StrCat(static_cast<int>(spec.kind), ":", spec.text.size(), ":", spec.text);
  for (const std::string& choice : spec.choices) absl::StrAppend(&key, choice.size(), ":", choice);
  return key;
}

}  // namespace

absl::StatusOr<std::unique_ptr<GrammarCompiler>> GrammarCompiler::Create(const Tokenizer& tokenizer,
                                                                         int vocab_size,
                                                                         Options options) {
  std::vector<std::string> vocabulary(std::min(vocab_size, tokenizer.vocab_size()));
  for (size_t id = 0; id < vocabulary.size(); ++id) {
    const auto token = static_cast<int32_t>(id);
    const bool is_spelled =
        std::count(options.spelled_tokens.begin(), options.spelled_tokens.end(), token) > 0;
    if (is_spelled || !tokenizer.IsSpecial(token))
      vocabulary[id] = std::string(tokenizer.TokenBytes(token));
  }
  return OfVocabulary(vocabulary, vocab_size, options);
}

absl::StatusOr<std::unique_ptr<GrammarCompiler>> GrammarCompiler::OfVocabulary(
    const std::vector<std::string>& vocabulary, int vocab_size, Options options) {
  MEA_ASSIGN_OR_RETURN(auto library, grammar::XgrammarLibrary::Create(vocabulary, vocab_size));
  return std::unique_ptr<GrammarCompiler>(new GrammarCompiler(std::move(library), options));
}

GrammarCompiler::GrammarCompiler(std::unique_ptr<grammar::XgrammarLibrary> library, Options options)
    : library_(std::move(library)), options_(options) {}

GrammarCompiler::~GrammarCompiler() = default;

std::shared_ptr<const Grammar> GrammarCompiler::Find(const GrammarSpec& spec) {
  const std::string key = KeyOf(spec);
  std::unique_lock lock(mutex_);
  const auto it = cached_.find(key);
  if (it == cached_.end()) return nullptr;
  ++stats_.found;
  cache_.splice(cache_.begin(), cache_, it->second);
  return it->second->grammar;
}

absl::StatusOr<std::shared_ptr<const Grammar>> GrammarCompiler::Compile(const GrammarSpec& spec,
                                                                        StillWanted still_wanted) {
  // Before anything is copied or waited for.
  MEA_ASSIGN_OR_RETURN(grammar::PreparedGrammar prepared, grammar::Prepare(spec));

  const std::string key = KeyOf(spec);
  std::unique_lock lock(mutex_);
  std::shared_ptr<UnderWay> mine;
  while (mine == nullptr) {
    if (const auto it = cached_.find(key); it != cached_.end()) {
      ++stats_.found;
      cache_.splice(cache_.begin(), cache_, it->second);
      return it->second->grammar;
    }
    std::shared_ptr<UnderWay>& place = under_way_[key];
    if (place == nullptr) {
      mine = place = std::make_shared<UnderWay>();
      break;
    }
    const std::shared_ptr<UnderWay> theirs = place;
    while (!theirs->is_done) {
      MEA_RETURN_IF_ERROR(still_wanted());
      compiled_.wait_for(lock, kPatience, [&] { return theirs->is_done; });
    }
    if (theirs->is_abandoned) continue;
    ++stats_.found;
    return theirs->grammar;
  }
  lock.unlock();

  bool is_abandoned = false;
  const auto ask = [&] {
    absl::Status status = still_wanted();
    is_abandoned = !status.ok();
    return status;
  };
  absl::StatusOr<std::shared_ptr<const Grammar>> grammar = library_->Compile(prepared, ask);
  lock.lock();
  ++stats_.compiled;
  mine->grammar = grammar;
  mine->is_abandoned = is_abandoned;
  mine->is_done = true;
  compiled_.notify_all();
  under_way_.erase(key);
  if (grammar.ok()) Keep(key, *grammar);
  return grammar;
}

void GrammarCompiler::Keep(std::string key, const std::shared_ptr<const Grammar>& grammar) {
  const int64_t bytes = grammar->memory_bytes() + 2 * static_cast<int64_t>(key.size());
  cache_.push_front({.key = key, .grammar = grammar, .bytes = bytes});
  cached_[std::move(key)] = cache_.begin();
  stats_.cached_bytes += bytes;
  while (stats_.cached_bytes > options_.cache_bytes) {
    stats_.cached_bytes -= cache_.back().bytes;
    cached_.erase(cache_.back().key);
    cache_.pop_back();
  }
}

GrammarCompiler::Stats GrammarCompiler::stats() const {
  std::unique_lock lock(mutex_);
  return stats_;
}

}  // namespace mea
