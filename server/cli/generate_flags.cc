#include "server/cli/generate_flags.h"

#include "server/cli/in_range.h"

namespace mea {

void GenerateFlags::AddTo(CLI::App& command) {
  command.add_option("-p,--prompt", prompt, "Text to continue; default: read from standard input");
  AddClientFlags(command, server, credentials);
  command.add_option("--model", model, "Name of the model; default: the one that is served");
  command.add_option("--request-id", request_id, "Id of the request; default: one is made up");
  command.add_flag("--stream,!--no-stream", stream,
                   "Print the text as it comes (default), or all of it at the end");
  command.add_flag("--json", json, "Print what the server sends as JSON, one object per line");
  command.add_option("--timeout", timeout_s, "Seconds until the request is given up; 0: never")
      ->check(InRange(0.0, 86400.0));
  command.add_option("--priority", priority, "-1000..1000; higher is scheduled first");

  command.add_option("--n", n, "Completions of the prompt, 1..16")->check(InRange(1, 16));
  command.add_flag("--echo", echo, "Print the prompt before each completion");

  sampling.AddTo(command);
  command.add_option("--repetition-penalty", repetition_penalty, "0.01..10; 1 is neutral")
      ->group(kSamplingGroup);
  command.add_option("--presence-penalty", presence_penalty, "-2..2; 0 is neutral")
      ->group(kSamplingGroup);
  command.add_option("--frequency-penalty", frequency_penalty, "-2..2; 0 is neutral")
      ->group(kSamplingGroup);

  const char* when = "Stopping";
  command.add_option("--max-tokens", max_tokens, "Most tokens to generate")->group(when);
  command.add_option("--min-tokens", min_tokens, "Fewest tokens to generate")->group(when);
  command.add_option("--stop", stop, "Text that ends the completion; may be repeated")
      ->group(when)
      ->allow_extra_args(false);
  command
      .add_option("--stop-token-id", stop_token_ids,
                  "Token id that ends the completion; may be repeated")
      ->group(when)
      ->allow_extra_args(false);
  command.add_flag("--ignore-eos", ignore_eos, "Go on after an end-of-sequence token")->group(when);
  command.add_flag("--include-stop", include_stop, "Keep the stop in the text")->group(when);
  command.add_option("--logprobs", logprobs,
                     "With --json: log-probabilities of this many tokens at each place");
}

v1::GenerateRequest GenerateFlags::ToRequest() const {
  v1::GenerateRequest request;
  request.set_request_id(request_id);
  request.set_model(model);
  request.set_text(prompt);
  request.set_priority(priority);
  v1::SamplingParams& params = *request.mutable_sampling();
  sampling.Set(params);
  if (repetition_penalty) params.set_repetition_penalty(*repetition_penalty);
  if (presence_penalty) params.set_presence_penalty(*presence_penalty);
  if (frequency_penalty) params.set_frequency_penalty(*frequency_penalty);
  params.set_n(n);
  v1::StoppingParams& stopping = *request.mutable_stopping();
  if (max_tokens) stopping.set_max_tokens(*max_tokens);
  if (min_tokens) stopping.set_min_tokens(*min_tokens);
  stopping.mutable_stop()->Assign(stop.begin(), stop.end());
  stopping.mutable_stop_token_ids()->Assign(stop_token_ids.begin(), stop_token_ids.end());
  stopping.set_ignore_eos(ignore_eos);
  stopping.set_include_stop(include_stop);
  if (logprobs) request.mutable_response()->set_logprobs(*logprobs);
  request.mutable_response()->set_echo(echo);
  return request;
}

}  // namespace mea
