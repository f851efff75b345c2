#pragma once

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "engine/grammar_state.h"
#include "engine/request.h"
#include "kvcache/page_table.h"

namespace mea {

// The events of one step for a sink; see TokenSink for the order.
struct SequenceEvents {
  std::optional<absl::Time> scheduled;
  std::vector<PromptLogprob> prompt_logprobs;
  std::vector<TokenEvent> tokens;
  std::optional<FinishEvent> finish;

  // Keeps the memory for the next step.
  void Clear() {
    scheduled.reset();
    prompt_logprobs.clear();
    tokens.clear();
    finish.reset();
  }
};

// One completion on its way through the engine. Engine thread only. While a step that draws for it
// is in flight, its newest token is not known yet: `tokens` ends with a placeholder that
// Backend::Embed understands, or with two while two such steps are in flight. Invariants:
// num_computed <= tokens.size(); pages hold at least num_computed tokens.
struct Sequence {
  Sequence(Request r, std::shared_ptr<TokenSink> s, PageTable p, int64_t number,
           int completion_index = 0)
      : request(std::move(r)),
        sink(std::move(s)),
        pages(std::move(p)),
        arrival(number),
        completion(completion_index),
        tokens(request.prompt) {}

  const Request request;
  const std::shared_ptr<TokenSink> sink;
  PageTable pages;
  const int64_t arrival;  // the order of requests among equals
  const int completion;   // of its request: 0, 1, ...
  int64_t turn = 0;       // who goes first, from its priority and its arrival; set by the scheduler

  // The completion that computes their prompt; set by the scheduler.
  const Sequence* waits_for = nullptr;

  std::vector<int32_t> tokens;  // prompt, then what was drawn
  int num_pending = 0;          // placeholders at the end of tokens
  int num_computed = 0;         // tokens whose keys and values are in the cache, or on their way
  int num_indexed = 0;          // of these: known to the prefix cache
  int num_cached = 0;           // of the prompt: found in the prefix cache at first admission
  int num_preemptions = 0;      // times that it lost its pages
  std::vector<PromptLogprob> prompt_logprobs;  // of tokens 1, 2, ...; grows with the computed part
  std::optional<GrammarState> grammar;         // if the request has one; not undone by preemption
  bool was_scheduled = false;
  bool awaits_end = false;      // its last token is pending: nothing more to compute
  bool has_ended = false;       // it has left the scheduler, and has no more events
  int num_steps_in_flight = 0;  // steps in flight that use it
  SequenceEvents events;        // collected since the last delivery
  bool has_events = false;

  int num_tokens() const { return static_cast<int>(tokens.size()); }
  int num_known_tokens() const { return num_tokens() - num_pending; }
  int num_to_compute() const { return num_tokens() - num_computed; }
  int prompt_length() const { return static_cast<int>(request.prompt.size()); }
  int num_output() const { return num_tokens() - prompt_length(); }
  std::span<const int32_t> output() const { return std::span(tokens).subspan(prompt_length()); }
  // All tokens except the newest, a drawn one, are in the cache: the next step has one row for it.
  bool is_decoding() const { return num_to_compute() == 1 && num_output() > 0; }
};

}  // namespace mea
