#include "engine/grammar/xgrammar_library.h"

#include <dlpack/dlpack.h>
#include <xgrammar/xgrammar.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <new>
#include <optional>
#include <stdexcept>
#include <utility>
#include <variant>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/grammar/follow_budget.h"
#include "engine/grammar/limits.h"
#include "engine/memory_shortage.h"
#include "kernels/status_macros.h"

namespace mea::grammar {
namespace {

// The warnings of the library during a compilation: usually about a rule that it will not enforce.
thread_local std::vector<std::string>* warnings_of_thread = nullptr;

class WarningCollector {
 public:
  WarningCollector() : outer_(std::exchange(warnings_of_thread, &warnings_)) {}
  ~WarningCollector() { warnings_of_thread = outer_; }
  WarningCollector(const WarningCollector&) = delete;
  WarningCollector& operator=(const WarningCollector&) = delete;

  const std::vector<std::string>& warnings() const { return warnings_; }

 private:
  std::vector<std::string> warnings_;
  std::vector<std::string>* const outer_;
};

// The work to which this thread's parser steps are charged.
thread_local TextWork* work_of_thread = nullptr;

class WorkScope {
 public:
  explicit WorkScope(TextWork* inner) : outer_(std::exchange(work_of_thread, inner)) {}
  ~WorkScope() { work_of_thread = outer_; }
  WorkScope(const WorkScope&) = delete;
  WorkScope& operator=(const WorkScope&) = delete;

 private:
  TextWork* const outer_;
};

// Called by the parser every so many steps (tools/deps/xgrammar).
constexpr std::string_view kStepsMessage = "1024 steps";
constexpr int64_t kSteps = 1024;

// One line of printable characters, of bounded length.
std::string OneLine(std::string_view message) {
  std::string line;
  for (const char c : message.substr(0, kMaxMessageBytes)) {
    line += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
  }
  while (!line.empty() && line.back() == ' ') line.pop_back();
  return line;
}

// Warnings that do not matter: an escaped character that needed no escape; branches of oneOf that
// are known to be disjoint (PrepareSchema).
bool IsHarmless(const std::string& warning) {
  return absl::StrContains(warning, "is not recognized") ||
         absl::StrContains(warning, "falling back to anyOf");
}

// The message of the library, after words that clients know.
absl::Status Refusal(std::string_view what, std::string_view message) {
  return absl::InvalidArgumentError(
      absl::StrCat(std::string(what), " cannot be compiled: ", OneLine(message)));
}

// Calls the library on `what`; an exception means the end of `work`, an error of the client or a
// lack of memory.
template <typename Call>
auto Guarded(TextWork& work, std::string_view what, Call call) -> absl::StatusOr<decltype(call())> {
  WarningCollector collector;
  const WorkScope scope(&work);
  const MemoryShortageThrows shortage;
  if (!work.Go(1)) return work.status();
  try {
    auto result = call();
    for (const std::string& warning : collector.warnings()) {
      if (!IsHarmless(warning)) return Refusal(what, warning);
    }
    return result;
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("the grammar takes more memory than there is");
  } catch (const std::exception& error) {
    if (absl::IsInvalidArgument(work.status())) {
      return absl::InvalidArgumentError(
          absl::StrCat("the grammar ", work.status().message(), " to compile"));
    }
    return work.stopped() ? work.status() : Refusal(what, error.what());
  }
}

xgrammar::Grammar FromSchema(const std::string& schema) {
  return xgrammar::Grammar::FromJSONSchema(schema, /*any_whitespace=*/true, std::nullopt,
                                           std::nullopt, /*strict_mode=*/false);
}

// The library keeps a pattern inside the quotes of a JSON string only if it can make an automaton
// of it; otherwise it would allow quotes and control characters.
absl::Status CheckPattern(const std::string& pattern, TextWork& work) {
  const nlohmann::ordered_json schema = {{"type", "string"}, {"pattern", pattern}};
  const std::string name = absl::StrCat("pattern \"", OneLine(pattern.substr(0, 60)), "\"");
  MEA_ASSIGN_OR_RETURN(const std::string text,
                       Guarded(work, name, [&] { return FromSchema(schema.dump()).ToString(); }));
  if (absl::StrContains(text, "json_string=true")) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(name, " is not supported in a schema"));
}

const char* NameOf(PreparedGrammar::Kind kind) {
  switch (kind) {
    case PreparedGrammar::Kind::kJsonSchema:
      return "the schema";
    case PreparedGrammar::Kind::kRegex:
      return "the regular expression";
    case PreparedGrammar::Kind::kEbnf:
      return "the grammar";
    case PreparedGrammar::Kind::kStructuralTag:
      return "the structural tag";
  }
  return "";
}

xgrammar::Grammar MakeGrammar(const PreparedGrammar& prepared,
                              const xgrammar::TokenizerInfo& tokenizer) {
  switch (prepared.kind) {
    case PreparedGrammar::Kind::kJsonSchema:
      return FromSchema(prepared.text);
    case PreparedGrammar::Kind::kRegex:
      // As one automaton, which is a hundred times as fast as rules.
      return xgrammar::Grammar::FromEBNF(
          absl::StrCat("root ::= Regex(", EbnfQuoted(prepared.text), ")"));
    case PreparedGrammar::Kind::kEbnf:
      return xgrammar::Grammar::FromEBNF(prepared.text);
    case PreparedGrammar::Kind::kStructuralTag:
      break;
  }
  auto made = xgrammar::Grammar::FromStructuralTag(prepared.text, tokenizer);
  if (auto* grammar = std::get_if<xgrammar::Grammar>(&made)) return std::move(*grammar);
  throw std::runtime_error(std::visit([](const auto& error) { return std::string(error.what()); },
                                      std::get<xgrammar::StructuralTagError>(made)));
}

// The tokens that consist of blanks, tabs and line ends only.
struct BlankTokens {
  explicit BlankTokens(const std::vector<std::string>& vocabulary, int vocab_size)
      : mask(MaskWords(vocab_size)), sizes(vocab_size) {
    for (size_t id = 0; id < vocabulary.size(); ++id) {
      const std::string& token = vocabulary[id];
      if (token.empty() || token.find_first_not_of(" \t\r\n") != token.npos) continue;
      mask[id / kMaskBits] |= uint32_t{1} << id % kMaskBits;
      sizes[id] = static_cast<int>(token.size());
    }
  }
  std::vector<uint32_t> mask;
  std::vector<int> sizes;  // bytes; 0 for any other token
};

class XgrammarMatcher : public GrammarMatcher {
 public:
  // `blanks`: null unless the grammar bounds runs of blanks.
  XgrammarMatcher(const xgrammar::CompiledGrammar& compiled, int vocab_size, std::vector<int> stops,
                  std::shared_ptr<const BlankTokens> blanks)
      : vocab_size_(vocab_size),
        blanks_(std::move(blanks)),
        stops_(std::move(stops)),
        matcher_(compiled, stops_.empty() ? std::nullopt : std::optional(stops_)) {}

  absl::Status FillMask(std::span<uint32_t> mask) override {
    MEA_RETURN_IF_ERROR(status_);
    WarningCollector unheard;
    std::array<int64_t, 1> shape = {MaskWords(vocab_size_)};
    if (static_cast<int64_t>(mask.size()) != shape[0]) {
      return absl::InternalError("a mask is not of the vocabulary's size");
    }
    DLTensor tensor{.data = mask.data(),
                    .device = {kDLCPU, 0},
                    .ndim = 1,
                    .dtype = xgrammar::GetBitmaskDLType(),
                    .shape = shape.data(),
                    .strides = nullptr,
                    .byte_offset = 0};
    Counted([&] { matcher_.FillNextTokenBitmask(&tensor); });
    const int tail = vocab_size_ % kMaskBits;
    if (tail != 0) mask.back() &= (uint32_t{1} << tail) - 1;
    BoundBlanks(mask);
    return status_;
  }

  bool Accept(int32_t token) override {
    if (!status_.ok()) return false;
    if (token < 0 || token >= vocab_size_) return false;
    const int blank = blanks_ == nullptr ? 0 : blanks_->sizes[token];
    if (blank > 0 && blanks_are_cut_) return false;
    WarningCollector unheard;
    bool accepted = false;
    Counted([&] { accepted = matcher_.AcceptToken(token); });
    if (accepted) blank_run_ = blank > 0 ? blank_run_ + blank : 0;
    return accepted;
  }

  bool is_finished() override {
    if (matcher_.IsTerminated()) return true;
    if (!matcher_.IsCompleted()) return false;
    mask_.resize(MaskWords(vocab_size_));
    if (!FillMask(mask_).ok()) return false;
    for (const int32_t stop : stops_) mask_[stop / kMaskBits] &= ~(uint32_t{1} << stop % kMaskBits);
    return std::all_of(mask_.begin(), mask_.end(), [](uint32_t word) { return word == 0; });
  }

 private:
  // After a long run of blanks, another blank is allowed only if nothing else is. The library can
  // also bound runs, but its masks then take three times as long.
  void BoundBlanks(std::span<uint32_t> mask) {
    blanks_are_cut_ = false;
    if (blanks_ == nullptr || blank_run_ < kMaxWhitespace) return;
    for (size_t i = 0; i < mask.size(); ++i) {
      blanks_are_cut_ = blanks_are_cut_ || (mask[i] & ~blanks_->mask[i]) != 0;
    }
    if (!blanks_are_cut_) return;
    for (size_t i = 0; i < mask.size(); ++i) mask[i] &= ~blanks_->mask[i];
  }

  // An ambiguous grammar takes longer with every token. All requests share the engine's thread, so
  // a call that exceeds the budget of its sequence is stopped and the sequence ends.
  template <typename Call>
  void Counted(Call call) {
    const auto wanted = [] { return absl::OkStatus(); };
    TextWork work(wanted, budget_.ForOneCall());
    try {
      const WorkScope scope(&work);
      call();
    } catch (const std::exception& error) {
      status_ = absl::InvalidArgumentError(absl::StrCat(
          "structured output cannot continue: ",
          work.stopped() ? "the grammar is too ambiguous to follow" : OneLine(error.what())));
    }
    budget_.Take(work.steps());
  }
  const int vocab_size_;
  const std::shared_ptr<const BlankTokens> blanks_;
  int blank_run_ = 0;  // bytes in the current run of blank tokens
  bool blanks_are_cut_ = false;
  const std::vector<int> stops_;
  xgrammar::GrammarMatcher matcher_;
  std::vector<uint32_t> mask_;
  absl::Status status_;
  FollowBudget budget_;
};

class XgrammarGrammar : public Grammar {
 public:
  XgrammarGrammar(xgrammar::CompiledGrammar compiled, int vocab_size,
                  std::shared_ptr<const BlankTokens> blanks)
      : compiled_(std::move(compiled)),
        vocab_size_(vocab_size),
        blanks_(std::move(blanks)),
        memory_bytes_(static_cast<int64_t>(compiled_.MemorySizeBytes())) {}

  std::unique_ptr<GrammarMatcher> NewMatcher(
      std::span<const int32_t> stop_token_ids) const override {
    std::vector<int> stops(stop_token_ids.begin(), stop_token_ids.end());
    std::erase_if(stops, [&](int id) { return id < 0 || id >= vocab_size_; });
    return std::make_unique<XgrammarMatcher>(compiled_, vocab_size_, std::move(stops), blanks_);
  }
  int64_t memory_bytes() const override { return memory_bytes_; }

 private:
  const xgrammar::CompiledGrammar compiled_;
  const int vocab_size_;
  const std::shared_ptr<const BlankTokens> blanks_;
  const int64_t memory_bytes_;
};

class Library : public XgrammarLibrary {
 public:
  Library(xgrammar::TokenizerInfo tokenizer, const std::vector<std::string>& vocabulary,
          int vocab_size)
      : tokenizer_(std::move(tokenizer)),
        vocab_size_(vocab_size),
        blanks_(std::make_shared<const BlankTokens>(vocabulary, vocab_size)) {}

  absl::StatusOr<std::shared_ptr<const Grammar>> Compile(const PreparedGrammar& prepared,
                                                         StillWanted still_wanted) const override {
    TextWork work(still_wanted, kMaxCompileSteps);
    for (const std::string& pattern : prepared.patterns) {
      MEA_RETURN_IF_ERROR(CheckPattern(pattern, work));
    }
    const bool is_json = prepared.kind == PreparedGrammar::Kind::kJsonSchema;
    const auto compile = [&](const auto& make) {
      // One thread, because an exception in another thread would end the process. No cache, because
      // ours is bounded.
      return Guarded(work, NameOf(prepared.kind), [&] {
        xgrammar::GrammarCompiler compiler(tokenizer_, /*max_threads=*/1, /*cache_enabled=*/false);
        return std::make_shared<const XgrammarGrammar>(compiler.CompileGrammar(make()), vocab_size_,
                                                       is_json ? blanks_ : nullptr);
      });
    };
    auto grammar = compile([&] { return MakeGrammar(prepared, tokenizer_); });
    const bool is_regex = prepared.kind == PreparedGrammar::Kind::kRegex;
    if (!grammar.ok() && is_regex && !work.stopped()) {
      // Rules can express what automata cannot.
      grammar = compile([&] { return xgrammar::Grammar::FromRegex(prepared.text); });
    }
    MEA_RETURN_IF_ERROR(grammar.status());
    if ((*grammar)->memory_bytes() > kMaxGrammarBytes) {
      return absl::InvalidArgumentError(absl::StrCat("the grammar takes ",
                                                     (*grammar)->memory_bytes(),
                                                     " bytes, more than ", kMaxGrammarBytes));
    }
    // At least one text must be possible.
    std::vector<uint32_t> mask(MaskWords(vocab_size_));
    const std::unique_ptr<GrammarMatcher> matcher = (*grammar)->NewMatcher({});
    MEA_RETURN_IF_ERROR(matcher->FillMask(mask));
    if (std::all_of(mask.begin(), mask.end(), [](uint32_t word) { return word == 0; }) &&
        !matcher->is_finished()) {
      return absl::InvalidArgumentError("no text of this model's tokens matches the grammar");
    }
    return *std::move(grammar);
  }

 private:
  const xgrammar::TokenizerInfo tokenizer_;
  const int vocab_size_;
  const std::shared_ptr<const BlankTokens> blanks_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<XgrammarLibrary>> XgrammarLibrary::Create(
    const std::vector<std::string>& vocabulary, int vocab_size) {
  TextWork work;
  absl::StatusOr<xgrammar::TokenizerInfo> tokenizer = Guarded(work, "the vocabulary", [&] {
    return xgrammar::TokenizerInfo(vocabulary, xgrammar::VocabType::RAW, vocab_size,
                                   std::vector<int32_t>());
  });
  if (!tokenizer.ok()) {
    return absl::InternalError(
        absl::StrCat("no grammars over this vocabulary: ", tokenizer.status().message()));
  }
  return std::make_unique<Library>(*std::move(tokenizer), vocabulary, vocab_size);
}

}  // namespace mea::grammar

// The library is built to call these (tools/deps/xgrammar), in the thread that it runs in.
namespace xgrammar {

[[noreturn]] void LogFatalImpl(const std::string& file, int line, const std::string& message);
void LogMessageImpl(const std::string& file, int line, int level, const std::string& message);

void LogFatalImpl(const std::string& /*file*/, int /*line*/, const std::string& message) {
  throw std::runtime_error(message);
}

void LogMessageImpl(const std::string& /*file*/, int /*line*/, int level,
                    const std::string& message) {
  using namespace mea::grammar;
  if (message == kStepsMessage) {
    // Unwinds the library's stack; Guarded says why.
    if (work_of_thread != nullptr && !work_of_thread->Go(kSteps)) throw std::runtime_error("");
    return;
  }
  constexpr int kWarning = 2;
  if (level >= kWarning && mea::grammar::warnings_of_thread != nullptr) {
    mea::grammar::warnings_of_thread->push_back(message);
  }
}

}  // namespace xgrammar
