#include "engine/load_forecast.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <queue>

#include "engine/prompt_shares.h"

namespace mea {
namespace {

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

int MostOutput(const Request& request, int max_context) {
  const int room = max_context - static_cast<int>(request.prompt.size());
  return std::max(1, std::min(request.stopping.max_tokens, room));
}

Work NewWork(const LoadForecast& forecast, const Request& request, int prompt_tokens,
             int output_tokens) {
  return {.turn = forecast.num_steps - int64_t{forecast.steps_per_priority} * request.priority,
          .priority = request.priority,
          .prompt_tokens = prompt_tokens,
          .output_tokens = output_tokens,
          .num_pages = static_cast<int>(forecast.layout->PagesFor(prompt_tokens))};
}

// Starts sequences one after the other, each as soon as a place and its pages are free. Running
// ones come first.
class Replay {
 public:
  explicit Replay(const LoadForecast& forecast)
      : forecast_(forecast), places_(forecast.max_num_seqs), pages_(forecast.num_available_pages) {}

  void Begin(const Work& work) {
    if (!work.is_running) {
      AwaitRoom(work.num_pages);
      pages_ -= work.num_pages;
    }
    --places_;
    prompts_.push_back({.priority = work.priority, .num_tokens = work.prompt_tokens});
    // The step that ends a prompt also draws a token.
    const bool has_prompt = work.prompt_tokens > 0;
    const int64_t begin = now_ + Steps(work.prompt_tokens);
    const int64_t end = begin + work.output_tokens - has_prompt;
    decodes_.push_back({begin, end});
    endings_.push({end, work.num_pages});
  }
  // Pages that may become free at any time.
  void Release(int num_pages) { pages_ += num_pages; }

  // Seconds until the last of them began.
  double SecondsUntilBegin() const {
    int64_t prompt_tokens = 0;
    for (const PromptLeft& prompt : prompts_) prompt_tokens += prompt.num_tokens;
    return Seconds(now_, prompt_tokens);
  }

  // And until it ends. Shorter prompts are served before its own; longer ones get what is left.
  double SecondsUntilEnd() const {
    const PromptLeft& own = prompts_.back();
    int64_t before = own.num_tokens, behind = 0;
    for (const PromptLeft& prompt : std::span(prompts_).first(prompts_.size() - 1)) {
      (IsServedBefore(own, prompt) ? behind : before) += prompt.num_tokens;
    }
    const Decodes& last = decodes_.back();
    const int64_t end = last.end + std::max<int64_t>(0, Steps(before) - last.begin);
    const int64_t left = std::max<int64_t>(0, end * forecast_.prompt_budget - before);
    return Seconds(end, before + std::min(behind, left));
  }

 private:
  struct Decodes {
    int64_t begin, end;  // steps: a token in each of (begin, end]
  };
  struct Ending {
    int64_t step;
    int num_pages;
    bool operator>(const Ending& other) const { return step > other.step; }
  };

  double Seconds(int64_t steps, int64_t prompt_tokens) const {
    int64_t decoded = 0;
    for (const Decodes& decodes : decodes_) {
      decoded += std::max<int64_t>(0, std::min(decodes.end, steps) - decodes.begin);
    }
    return forecast_.step_time.Seconds(steps, prompt_tokens, decoded);
  }
  int64_t Steps(int64_t prompt_tokens) const {
    return CeilDiv(prompt_tokens, forecast_.max_batch_tokens);
  }
  void AwaitRoom(int num_pages) {
    while ((places_ <= 0 || pages_ < num_pages) && !endings_.empty()) {
      now_ = std::max(now_, endings_.top().step);
      pages_ += endings_.top().num_pages;
      ++places_;
      endings_.pop();
    }
  }

  const LoadForecast& forecast_;
  int places_;
  int pages_;
  int64_t now_ = 0;
  std::vector<PromptLeft> prompts_;
  std::vector<Decodes> decodes_;
  std::priority_queue<Ending, std::vector<Ending>, std::greater<>> endings_;
};

// Waiting sequences in the order in which they will begin: by turn, then by arrival.
std::vector<Work> Waiting(const LoadForecast& forecast, std::span<const Work> recent) {
  std::vector<Work> waiting;
  for (const Work& work : forecast.work) {
    if (!work.is_running) waiting.push_back(work);
  }
  waiting.insert(waiting.end(), recent.begin(), recent.end());
  std::ranges::stable_sort(waiting, {}, &Work::turn);
  return waiting;
}

}  // namespace

bool EndsAtLengthOnly(const StoppingParams& stopping) {
  return stopping.ignore_eos && stopping.stop_token_ids.empty() && !stopping.is_watched;
}

int ExpectedOutput(const Request& request, double output_share, int max_context) {
  const int most = MostOutput(request, max_context);
  if (EndsAtLengthOnly(request.stopping)) return most;
  return std::max(1, static_cast<int>(output_share * most));
}

Work ExpectedWork(const LoadForecast& forecast, const Request& request) {
  const auto length = static_cast<double>(request.prompt.size());
  const double cached = request.bypass_prefix_cache ? 0 : forecast.cached_share;
  return NewWork(forecast, request, std::max(1, static_cast<int>(length * (1 - cached))),
                 ExpectedOutput(request, forecast.output_share, forecast.max_context));
}

// If prompts are found in the prefix cache at all, this one might be there as a whole.
Work LeastWork(const LoadForecast& forecast, const Request& request) {
  const bool may_be_cached = forecast.cached_share > 0 && !request.bypass_prefix_cache;
  return NewWork(
      forecast, request, may_be_cached ? 1 : static_cast<int>(request.prompt.size()),
      EndsAtLengthOnly(request.stopping) ? MostOutput(request, forecast.max_context) : 1);
}

double SecondsUntilEnd(const LoadForecast& forecast, std::span<const Work> recent,
                       const Work& own) {
  Replay replay(forecast);
  for (const Work& work : forecast.work) {
    if (!work.is_running) continue;
    // A sequence that comes after it may be preempted at any time.
    work.turn <= own.turn ? replay.Begin(work) : replay.Release(work.num_pages);
  }
  for (const Work& work : Waiting(forecast, recent)) {
    if (work.turn <= own.turn) replay.Begin(work);
  }
  replay.Begin(own);
  return replay.SecondsUntilEnd();
}

double SecondsAlone(const LoadForecast& forecast, const Work& own) {
  Replay replay(forecast);
  replay.Begin(own);
  return replay.SecondsUntilEnd();
}

double SecondsUntilBegun(const LoadForecast& forecast, std::span<const Work> recent,
                         int num_requests, int64_t num_tokens) {
  Replay replay(forecast);
  for (const Work& work : forecast.work) {
    if (work.is_running) replay.Begin(work);
  }
  for (const Work& work : Waiting(forecast, recent)) {
    if (num_requests <= 0 && num_tokens <= 0) break;
    replay.Begin(work);
    --num_requests;
    num_tokens -= work.prompt_tokens;
  }
  return replay.SecondsUntilBegin();
}

}  // namespace mea
