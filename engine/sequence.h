#pragma once

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "engine/grammar_state.h"
#include "engine/request.h"
#include "kvcache/page_table.h"

namespace mea {

// What a sink is to hear of one step; see TokenSink for the order.
struct SequenceEvents {
  std::optional<absl::Time> scheduled;
  std::vector<PromptLogprob> prompt_logprobs;
  std::vector<TokenEvent> tokens;
  std::optional<FinishEvent> finish;

  // Keeps the memory for the next step's.
  void Clear() {
    scheduled.reset();
    prompt_logprobs.clear();
    tokens.clear();
    finish.reset();
  }
};

// One request on its way through the engine. Engine thread only.
// While a step that draws for it is under way, its newest token is not known yet: `tokens` ends
// with a placeholder, which Backend::Embed understands; with two while two such steps are.
// Invariants: num_computed <= tokens.size(); pages hold at least num_computed tokens.
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
  int64_t turn = 0;       // who goes first, from its priority and its arrival: the scheduler's

  const Sequence* waits_for =
      nullptr;  // the completion that computes their prompt; the scheduler's

  std::vector<int32_t> tokens;  // prompt, then what was drawn
  int num_pending = 0;          // placeholders at the end of tokens
  int num_computed = 0;         // tokens whose keys and values are in the cache, or on their way
  int num_indexed = 0;          // of these: told to the prefix cache
  int num_cached = 0;           // of the prompt: found in the prefix cache at first admission
  std::vector<PromptLogprob> prompt_logprobs;  // of tokens 1, 2, ...; grows with the computed part
  std::optional<GrammarState> grammar;  // where the request has one; not undone by preemption
  bool was_scheduled = false;
  bool awaits_end = false;      // its last token is pending: there is nothing more to compute
  bool has_ended = false;       // it has left the scheduler, and nothing more is told of it
  int num_steps_in_flight = 0;  // steps under way that know it
  SequenceEvents events;        // collected since the last delivery
  bool has_events = false;

  int num_tokens() const { return static_cast<int>(tokens.size()); }
  int num_known_tokens() const { return num_tokens() - num_pending; }
  int num_to_compute() const { return num_tokens() - num_computed; }
  int prompt_length() const { return static_cast<int>(request.prompt.size()); }
  int num_output() const { return num_tokens() - prompt_length(); }
  std::span<const int32_t> output() const { return std::span(tokens).subspan(prompt_length()); }
  // All but the newest token, a drawn one, are in the cache: the next step has one row of it.
  bool is_decoding() const { return num_to_compute() == 1 && num_output() > 0; }
};

}  // namespace mea
