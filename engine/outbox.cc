#include "engine/outbox.h"

#include <utility>

namespace mea {

SequenceEvents& Outbox::EventsOf(Sequence* sequence) {
  if (!std::exchange(sequence->has_events, true)) with_events_.push_back(sequence);
  return sequence->events;
}

void Outbox::Deliver() {
  for (Sequence* sequence : with_events_) {
    SequenceEvents& events = sequence->events;
    sequence->has_events = false;
    TokenSink& sink = *sequence->sink;
    if (events.scheduled.has_value()) sink.OnScheduled(*events.scheduled);
    if (!events.prompt_logprobs.empty()) sink.OnPromptLogprobs(events.prompt_logprobs);
    for (const TokenEvent& token : events.tokens) sink.OnToken(token);
    if (events.finish.has_value()) sink.OnFinish(*events.finish);
    events.Clear();
  }
  with_events_.clear();
  for (auto& sequence : ended_) {
    if (sequence->num_steps_in_flight > 0) lingering_.push_back(std::move(sequence));
  }
  ended_.clear();
}

void Outbox::ForgetSteps() {
  for (const auto& sequence : ended_) sequence->num_steps_in_flight = 0;
  lingering_.clear();
}

void Outbox::DropDelivered() {
  std::erase_if(lingering_, [](const auto& s) { return s->num_steps_in_flight == 0; });
}

}  // namespace mea
