#include "server/cli/generate_flags.h"

#include "server/cli/client_flags.h"
#include "server/cli/in_range.h"

namespace mea {

void GenerateFlags::AddTo(CLI::App& command) {
  command.add_option("-p,--prompt", prompt, "Text to continue; default: read from standard input");
  command.add_option("--server", server, "gRPC address of the server")
      ->type_name("HOST:PORT")
      ->capture_default_str();
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

  const char* how = "Sampling (default: what the model recommends)";
  command.add_option("--temperature", temperature, "0..2; 0 takes the most likely token")
      ->group(how);
  command.add_option("--top-k", top_k, "Keep the k most likely tokens; 0 keeps all")->group(how);
  command.add_option("--top-p", top_p, "Keep the most likely tokens up to this probability")
      ->group(how);
  command.add_option("--min-p", min_p, "Drop tokens this much less likely than the first")
      ->group(how);
  command.add_option("--repetition-penalty", repetition_penalty, "0.01..10; 1 is neutral")
      ->group(how);
  command.add_option("--presence-penalty", presence_penalty, "-2..2; 0 is neutral")->group(how);
  command.add_option("--frequency-penalty", frequency_penalty, "-2..2; 0 is neutral")->group(how);
  command.add_option("--seed", seed, "The same seed gives the same tokens")->group(how);

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
  AddClientFlags(command, credentials);
}

v1::GenerateRequest GenerateFlags::ToRequest() const {
  v1::GenerateRequest request;
  request.set_request_id(request_id);
  request.set_model(model);
  request.set_text(prompt);
  request.set_priority(priority);
  v1::SamplingParams& sampling = *request.mutable_sampling();
  if (temperature) sampling.set_temperature(*temperature);
  if (top_k) sampling.set_top_k(*top_k);
  if (top_p) sampling.set_top_p(*top_p);
  if (min_p) sampling.set_min_p(*min_p);
  if (repetition_penalty) sampling.set_repetition_penalty(*repetition_penalty);
  if (presence_penalty) sampling.set_presence_penalty(*presence_penalty);
  if (frequency_penalty) sampling.set_frequency_penalty(*frequency_penalty);
  if (seed) sampling.set_seed(*seed);
  sampling.set_n(n);
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
