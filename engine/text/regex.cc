#include "engine/text/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <optional>
#include <string>

#include "engine/text/regex_syntax.h"
#include "engine/text/utf8.h"
#include "kernels/check.h"

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

// Room for one pair of offsets is enough for every pattern: nobody asks for groups.
pcre2_match_data* ThreadMatchData() {
  thread_local const MatchDataPtr data(pcre2_match_data_create(1, nullptr));
  return data.get();
}

}  // namespace

struct Regex::Code {
  // The first match at or after `from`.
  std::optional<std::pair<size_t, size_t>> Find(std::string_view text, size_t from) const {
    if (!literal.empty()) {
      const size_t at = text.find(literal, from);
      if (at == std::string_view::npos) return std::nullopt;
      return std::pair{at, at + literal.size()};
    }
    pcre2_match_data* data = ThreadMatchData();
    int rc = PCRE2_ERROR_JIT_STACKLIMIT;
    if (has_jit) {
      rc = pcre2_jit_match(code.get(), Subject(text), text.size(), from, 0, data, context.get());
    }
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT) {  // the interpreter keeps its stack on the heap
      rc = pcre2_match(code.get(), Subject(text), text.size(), from,
                       PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, data, context.get());
    }
    // With its limits lifted an error means that memory is short. It counts as no match.
    if (rc < 0) return std::nullopt;
    const PCRE2_SIZE* offsets = pcre2_get_ovector_pointer(data);
    return std::pair{offsets[0], offsets[1]};
  }

  std::string literal;  // if not empty the pattern is this text, and the rest is not used
  CodePtr code;
  MatchContextPtr context;
  bool has_jit = false;
};

absl::StatusOr<Regex> Regex::Compile(std::string_view pattern) {
  const absl::StatusOr<std::string> translated = OnigurumaToPcre2(pattern);
  if (!translated.ok()) return translated.status();
  const CompileContextPtr options(pcre2_compile_context_create(nullptr));
  pcre2_set_newline(options.get(), PCRE2_NEWLINE_LF);
  int error = 0;
  PCRE2_SIZE where = 0;
  auto compiled = std::make_shared<Code>();
  compiled->code.reset(pcre2_compile(Subject(*translated), translated->size(),
                                     PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE, &error, &where,
                                     options.get()));
  if (compiled->code == nullptr) {
    char message[256] = "";
    pcre2_get_error_message(error, reinterpret_cast<PCRE2_UCHAR*>(message), sizeof(message));
    return absl::InvalidArgumentError(message);
  }
  compiled->context.reset(pcre2_match_context_create(nullptr));
  pcre2_set_match_limit(compiled->context.get(), UINT32_MAX);
  pcre2_set_depth_limit(compiled->context.get(), UINT32_MAX);
  compiled->has_jit = pcre2_jit_compile(compiled->code.get(), PCRE2_JIT_COMPLETE) == 0;
  return Regex(std::move(compiled));
}

Regex Regex::Literal(std::string_view text) {
  MEA_CHECK(!text.empty());
  auto code = std::make_shared<Code>();
  code->literal = text;
  return Regex(std::move(code));
}

void Regex::Split(std::string_view text, std::vector<TextSpan>* spans) const {
  spans->clear();
  if (text.empty()) return;
  size_t done = 0;  // end of the last span
  for (size_t from = 0; from <= text.size();) {
    const auto match = code_->Find(text, from);
    if (!match.has_value()) break;
    const auto [begin, end] = *match;
    if (begin == end && end == done && !spans->empty() && spans->back().is_match) {
      // An empty match right behind a match would be found for ever.
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
