#include "engine/text/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <optional>
#include <string>

#include "engine/text/regex_syntax.h"
#include "engine/text/utf8.h"
#include "kernels/check.h"
#include "kernels/status_macros.h"

namespace mea {
namespace {

template <auto kFree>
struct Freer {
  template <typename T>
  void operator()(T* object) const {
    kFree(object);
  }
};
using CodePtr = std::unique_ptr<pcre2_code, Freer<&pcre2_code_free>>;
using MatchDataPtr = std::unique_ptr<pcre2_match_data, Freer<&pcre2_match_data_free>>;
using MatchContextPtr = std::unique_ptr<pcre2_match_context, Freer<&pcre2_match_context_free>>;
using CompileContextPtr =
    std::unique_ptr<pcre2_compile_context, Freer<&pcre2_compile_context_free>>;

PCRE2_SPTR Subject(std::string_view text) { return reinterpret_cast<PCRE2_SPTR>(text.data()); }

// One pair of offsets is enough for every pattern: groups are not used.
pcre2_match_data* ThreadMatchData() {
  thread_local const MatchDataPtr data(pcre2_match_data_create(1, nullptr));
  return data.get();
}

// The bytes that a match may see before it must ask for more.
constexpr size_t kWindowBytes = 1024;

// The bound for one attempt, because a pattern may match in many ways.
constexpr uint32_t kMaxBacktracks = 50'000'000;
constexpr uint32_t kMaxHeapKib = 256 << 10;

size_t WindowEnd(std::string_view text, size_t begin, size_t bytes) {
  if (text.size() - begin <= bytes) return text.size();
  return CodePointBefore(text, begin + bytes + 1);
}

// A pattern compiled once. Immutable.
class Pcre2Pattern {
 public:
  enum class Answer { kMatch, kNone, kNeedsMore, kGaveUp };
  struct Found {
    Answer answer;
    size_t begin = 0, end = 0;  // kMatch; kNeedsMore: where the attempt began
  };

  // Null, and a `message`, if PCRE2 refuses it.
  static std::optional<Pcre2Pattern> Compile(std::string_view pattern, uint32_t flags,
                                             std::string* message) {
    const CompileContextPtr options(pcre2_compile_context_create(nullptr));
    pcre2_set_newline(options.get(), PCRE2_NEWLINE_LF);
    int error = 0;
    PCRE2_SIZE where = 0;
    Pcre2Pattern compiled;
    compiled.code_.reset(pcre2_compile(Subject(pattern), pattern.size(),
                                       PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | flags, &error,
                                       &where, options.get()));
    if (compiled.code_ == nullptr) {
      char text[256] = "";
      pcre2_get_error_message(error, reinterpret_cast<PCRE2_UCHAR*>(text), sizeof(text));
      *message = text;
      return std::nullopt;
    }
    compiled.context_.reset(pcre2_match_context_create(nullptr));
    pcre2_set_match_limit(compiled.context_.get(), kMaxBacktracks);
    pcre2_set_depth_limit(compiled.context_.get(), UINT32_MAX);
    pcre2_set_heap_limit(compiled.context_.get(), kMaxHeapKib);
    compiled.has_jit_ =
        pcre2_jit_compile(compiled.code_.get(), PCRE2_JIT_COMPLETE | PCRE2_JIT_PARTIAL_HARD) == 0;
    return compiled;
  }

  // Searches text[0, end) from `from`. kNeedsMore: the result depends on the text after `end`.
  Found Match(std::string_view text, size_t from, size_t end) const {
    pcre2_match_data* data = ThreadMatchData();
    const uint32_t flags = end < text.size() ? PCRE2_PARTIAL_HARD : 0;
    int rc = PCRE2_ERROR_JIT_STACKLIMIT;
    if (has_jit_) {
      rc = pcre2_jit_match(code_.get(), Subject(text), end, from, flags, data, context_.get());
    }
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT) {  // the interpreter keeps its stack on the heap
      rc = pcre2_match(code_.get(), Subject(text), end, from,
                       flags | PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, data, context_.get());
    }
    const PCRE2_SIZE* offsets = pcre2_get_ovector_pointer(data);
    if (rc >= 0) return {Answer::kMatch, offsets[0], offsets[1]};
    if (rc == PCRE2_ERROR_PARTIAL) return {Answer::kNeedsMore, offsets[0]};
    return {rc == PCRE2_ERROR_NOMATCH ? Answer::kNone : Answer::kGaveUp};
  }

 private:
  CodePtr code_;
  MatchContextPtr context_;
  bool has_jit_ = false;
};

}  // namespace

// Every call of PCRE2 sees a window of the text. So the work can be stopped between two calls, and
// a pattern that reads far ahead at every position is detected by the windows that it asks for.
struct Regex::Code {
  using Answer = Pcre2Pattern::Answer;

  // The first match at or after `from`.
  std::optional<std::pair<size_t, size_t>> Find(std::string_view text, size_t from,
                                                TextWork& work) const {
    if (!literal.empty()) return FindLiteral(text, from, work);
    while (from <= text.size()) {
      const size_t end = WindowEnd(text, from, kWindowBytes);
      Pcre2Pattern::Found found = anywhere->Match(text, from, end);
      const bool empty_at_end = found.answer == Answer::kMatch && found.begin == end;
      if (end < text.size() && (found.answer == Answer::kNone || empty_at_end)) {
        if (!work.Go(static_cast<int64_t>(end - from))) return std::nullopt;
        from = end;
        continue;
      }
      if (found.answer == Answer::kNeedsMore) {
        from = found.begin;
        found = MatchAt(text, from, work);
        if (work.stopped()) return std::nullopt;
        if (found.answer == Answer::kNone && from < text.size()) {
          from += CodePointSize(text[from]);
          continue;
        }
      }
      if (found.answer == Answer::kGaveUp) {
        work.Stop(absl::InvalidArgumentError("is too much for a pattern of the tokenizer"));
      }
      const bool matches = found.answer == Answer::kMatch;
      const size_t seen = matches ? found.end : end;
      if (!work.Go(static_cast<int64_t>(seen - from) + 1) || !matches) return std::nullopt;
      return std::pair{found.begin, found.end};
    }
    return std::nullopt;
  }

  // The match that begins at `at`; the window grows until the result is certain.
  Pcre2Pattern::Found MatchAt(std::string_view text, size_t at, TextWork& work) const {
    for (size_t bytes = 2 * kWindowBytes;; bytes *= 2) {
      const size_t end = WindowEnd(text, at, bytes);
      if (!work.Go(static_cast<int64_t>(end - at))) return {Answer::kNone};
      const Pcre2Pattern::Found found = here->Match(text, at, end);
      if (found.answer != Answer::kNeedsMore || end == text.size()) return found;
    }
  }

  std::optional<std::pair<size_t, size_t>> FindLiteral(std::string_view text, size_t from,
                                                       TextWork& work) const {
    const size_t at = text.find(literal, from);
    const size_t seen = std::min(at, text.size()) - from;
    if (!work.Go(static_cast<int64_t>(seen) + 1) || at == text.npos) return std::nullopt;
    return std::pair{at, at + literal.size()};
  }

  std::string literal;  // if not empty the pattern is this text, and the rest is not used
  std::optional<Pcre2Pattern> anywhere,
      here;  // one searches for a match, the other tests one position
};

absl::StatusOr<Regex> Regex::Compile(std::string_view pattern) {
  MEA_ASSIGN_OR_RETURN(const std::string translated, OnigurumaToPcre2(pattern));
  auto compiled = std::make_shared<Code>();
  std::string message;
  compiled->anywhere = Pcre2Pattern::Compile(translated, 0, &message);
  if (compiled->anywhere)
    compiled->here = Pcre2Pattern::Compile(translated, PCRE2_ANCHORED, &message);
  if (!compiled->here) return absl::InvalidArgumentError(message);
  return Regex(std::move(compiled));
}

Regex Regex::Literal(std::string_view text) {
  MEA_CHECK(!text.empty());
  auto code = std::make_shared<Code>();
  code->literal = text;
  return Regex(std::move(code));
}

void Regex::Split(std::string_view text, TextWork& work, std::vector<TextSpan>* spans) const {
  spans->clear();
  if (text.empty()) return;
  size_t done = 0;  // end of the last span
  for (size_t from = 0; from <= text.size();) {
    const auto match = code_->Find(text, from, work);
    if (!match.has_value()) break;
    const auto [begin, end] = *match;
    if (begin == end && end == done && !spans->empty() && spans->back().is_match) {
      // An empty match directly after a match would be found forever.
      from += from < text.size() ? CodePointSize(text[from]) : 1;
      continue;
    }
    if (begin > done) spans->push_back({done, begin, false});
    spans->push_back({begin, end, true});
    done = from = end;
  }
  if (done < text.size()) spans->push_back({done, text.size(), false});
}

}  // namespace mea
