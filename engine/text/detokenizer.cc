#include "engine/text/detokenizer.h"

#include <absl/status/status.h>

#include <algorithm>
#include <utility>

#include "engine/text/decoder.h"
#include "engine/text/stop_matcher.h"
#include "engine/text/utf8.h"
#include "kernels/check.h"

namespace mea {

struct Detokenizer::State {
  State(const Tokenizer* tokenizer, DetokenizerOptions options)
      : stop_strings(std::move(options.stop)),
        include_stop(options.include_stop),
        min_tokens(options.min_tokens),
        stream(&tokenizer->decoder(), options.skip_special_tokens,
               std::move(options.shown_special_tokens)),
        matcher(&stop_strings),
        run_matcher(matcher) {}

  // The stop string that equals the special token.
  std::optional<int> StopOf(int32_t id) const {
    if (num_tokens <= min_tokens) return std::nullopt;
    const auto it = std::find_if(stop_tokens.begin(), stop_tokens.end(),
                                 [id](const auto& stop) { return stop.first == id; });
    return it == stop_tokens.end() ? std::nullopt : std::optional(it->second);
  }

  std::optional<StopMatcher::Match> Seek(StopMatcher& in, std::string_view text) const {
    if (num_tokens > min_tokens) return in.Scan(text);
    in.Skip(text);
    return std::nullopt;
  }

  // Takes text that is certain and returns the part that can be released.
  TextDelta Take(std::string_view fresh) {
    const size_t held_before = held.size();
    num_code_points += NumCodePoints(fresh);
    held += fresh;
    if (const auto match = Seek(matcher, fresh))
      return Stop(match->index, held_before + match->end);
    TextDelta delta{.text = std::move(held)};
    held = delta.text.substr(delta.text.size() - matcher.num_held());
    delta.text.resize(delta.text.size() - held.size());
    return delta;
  }

  // Also searches the open byte run, which is not certain: if generation stops here, no byte can
  // follow that would change it.
  std::optional<TextDelta> StopInRun() {
    const std::string_view run = stream.OpenRun();
    if (run.size() <= run_scanned) {
      if (run.empty()) run_scanned = 0;
      return std::nullopt;
    }
    if (run_scanned == 0) run_matcher = matcher;
    const auto match = Seek(run_matcher, run.substr(run_scanned));
    const size_t end = held.size() + run_scanned + (match ? match->end : 0);
    run_scanned = run.size();
    if (!match) return std::nullopt;
    held += run;
    return Stop(match->index, end);
  }

  // The text ends at the stop string that ends at held[end].
  TextDelta Stop(int index, size_t end) {
    stop_index = index;
    if (!include_stop) end -= stop_strings.length(index);
    return {.text = held.substr(0, end), .stop_index = index};
  }

  const StopStrings stop_strings;
  // Special tokens that are stop strings, and which.
  std::vector<std::pair<int32_t, int>> stop_tokens;
  const bool include_stop;
  const int min_tokens;
  DecodeStream stream;
  StopMatcher matcher;      // has read all certain text
  StopMatcher run_matcher;  // and run_scanned bytes of the open run
  size_t run_scanned = 0;
  std::string held;    // the end of the certain text, which may begin a stop string
  int num_tokens = 0;  // pushed
  int64_t num_code_points = 0;
  int stop_index = -1;  // >= 0: stopped
};

absl::StatusOr<Detokenizer> Detokenizer::Create(const Tokenizer* tokenizer,
                                                DetokenizerOptions options) {
  if (options.stop.size() > kMaxStopStrings) {
    return absl::InvalidArgumentError("stop has " + std::to_string(options.stop.size()) +
                                      " strings, at most " + std::to_string(kMaxStopStrings) +
                                      " are allowed");
  }
  for (size_t i = 0; i < options.stop.size(); ++i) {
    const std::string& stop = options.stop[i];
    const std::string name = "stop[" + std::to_string(i) + "]";
    if (stop.empty()) return absl::InvalidArgumentError(name + " is empty");
    if (stop.size() > kMaxStopBytes) {
      return absl::InvalidArgumentError(name + " has " + std::to_string(stop.size()) +
                                        " bytes, at most " + std::to_string(kMaxStopBytes) +
                                        " are allowed");
    }
    if (!IsValidUtf8(stop)) return absl::InvalidArgumentError(name + " is not UTF-8");
  }
  auto state = std::make_unique<State>(tokenizer, options);
  for (size_t i = 0; i < options.stop.size(); ++i) {
    const std::optional<int32_t> id = tokenizer->TokenToId(options.stop[i]);
    const auto& shown = options.shown_special_tokens;
    const bool skipped = id && options.skip_special_tokens && tokenizer->IsSpecial(*id) &&
                         !std::binary_search(shown.begin(), shown.end(), *id);
    if (skipped) state->stop_tokens.emplace_back(*id, static_cast<int>(i));
  }
  return Detokenizer(std::move(state));
}

Detokenizer::Detokenizer(std::unique_ptr<State> state) : state_(std::move(state)) {}
Detokenizer::Detokenizer(Detokenizer&&) noexcept = default;
Detokenizer& Detokenizer::operator=(Detokenizer&&) noexcept = default;
Detokenizer::~Detokenizer() = default;

void Detokenizer::StartAfter(std::span<const int32_t> prompt) {
  std::string text;
  for (const int32_t id : prompt) {
    state_->stream.Push(id, &text);
    text.clear();
  }
  state_->stream.BeginContinuation();
}

TextDelta Detokenizer::Push(int32_t id) {
  if (state_->stop_index >= 0) return {.stop_index = state_->stop_index};
  ++state_->num_tokens;
  if (const auto stop = state_->StopOf(id)) {
    TextDelta delta = Finish();
    if (delta.stop_index >= 0) return delta;
    if (state_->include_stop) delta.text += state_->stop_strings.text(*stop);
    delta.stop_index = state_->stop_index = *stop;
    return delta;
  }
  std::string fresh;
  state_->stream.Push(id, &fresh);
  TextDelta delta = state_->Take(fresh);
  if (delta.stop_index >= 0) return delta;
  if (auto stopped = state_->StopInRun()) {
    stopped->text.insert(0, delta.text);
    return *std::move(stopped);
  }
  return delta;
}

int64_t Detokenizer::num_code_points() const { return state_->num_code_points; }

TextDelta Detokenizer::Finish() {
  if (state_->stop_index >= 0) return {.stop_index = state_->stop_index};
  std::string fresh;
  state_->stream.Finish(&fresh);
  TextDelta delta = state_->Take(fresh);
  if (delta.stop_index < 0) delta.text += std::exchange(state_->held, {});
  return delta;
}

}  // namespace mea
