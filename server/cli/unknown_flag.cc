#include "server/cli/unknown_flag.h"

#include <algorithm>
#include <string_view>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "server/cli/words.h"

namespace mea {
namespace {

constexpr size_t kMaxFlagBytes = 64;  // longer ones have no suggestion
constexpr size_t kMinPrefixBytes = 4;

struct ForeignFlag {
  std::string_view command;  // its last name
  std::string_view flags;    // separated by spaces
  std::string_view answer;
};

// Flags of the servers and clients of vLLM and llama.cpp. None is accepted as an alias: few mean
// exactly the same.
constexpr ForeignFlag kForeignFlags[] = {
    {"serve", "--max-model-len -c --ctx-size", "use --max-context"},
    {"serve", "--host --port", "use --http HOST:PORT (OpenAI API) and --listen HOST:PORT (gRPC)"},
    {"serve", "-m --model-path --tokenizer", "give the checkpoint's directory as the argument"},
    {"serve", "-hf --hf-repo --hf-file --download-dir --hf-token",
     "mea downloads nothing; hf download ORG/NAME --local-dir DIR, then mea serve DIR"},
    {"serve", "--served-model-name --name -a --alias", "use --model-name"},
    {"serve",
     "--tensor-parallel-size -tp --pipeline-parallel-size -pp -sm --split-mode -ts --tensor-split "
     "-mg --main-gpu",
     "use --device cuda:0,1; each GPU gets some of the layers"},
    {"serve", "--data-parallel-size -dp", "start a server for each, and a router before them"},
    {"serve", "-ngl --gpu-layers --n-gpu-layers", "use --device cuda; it takes all layers"},
    {"serve", "--dtype", "use --weight-dtype"},
    {"serve", "-q --quantization",
     "use --weight-dtype int8 or int4, and --kv-dtype int8, int4 or k=int8,v=int4; "
     "GPTQ and AWQ checkpoints need no flag"},
    {"serve", "--kv-cache-dtype -ctk --cache-type-k -ctv --cache-type-v", "use --kv-dtype"},
    {"serve", "--kv-cache-memory-bytes --num-gpu-blocks-override --swap-space --cpu-offload-gb",
     "use --kv-cache-bytes; nothing is swapped"},
    {"serve", "-np --parallel", "use --max-num-seqs"},
    {"serve", "--max-num-batched-tokens -b --batch-size -ub --ubatch-size",
     "use --max-batch-tokens"},
    {"serve",
     "--max-num-partial-prefills --max-long-partial-prefills --long-prefill-token-threshold",
     "prompts share each step; see --target-itl"},
    {"serve", "--block-size", "use --page-size"},
    {"serve", "-t -tb --threads-batch --threads-http", "use --threads"},
    {"serve", "-C --cpu-mask -Cr --cpu-range --cpu-strict", "use --cpu-affinity"},
    {"serve", "--api-key", "use --api-key-file; mea key new makes its lines"},
    {"serve", "--ssl-keyfile --ssl-key-file", "use --tls-key"},
    {"serve", "--ssl-certfile --ssl-cert-file", "use --tls-cert"},
    {"serve", "--ssl-ca-certs", "use --tls-client-ca"},
    {"serve", "--no-enable-prefix-caching --no-enable-chunked-prefill --enforce-eager",
     "it is never so; a request may set bypass_prefix_cache"},
    {"serve", "--speculative-config --speculative-model --draft -md", "there is no speculation"},
    {"serve", "--override-generation-config", "use --generation-config FILE"},
    {"serve", "--allowed-origins", "use --http-cors"},
    {"serve", "--tool-call-parser", "use --tool-parser"},
    {"serve",
     "--enable-auto-tool-choice --jinja --enable-prefix-caching --enable-chunked-prefill "
     "-cb --cont-batching -fa --flash-attn",
     "it is always so"},
    {"serve", "--reasoning-format --enable-reasoning", "use --reasoning-parser"},
    {"serve", "--chat-template-file", "use --chat-template"},
    {"serve", "--trust-remote-code", "no code of a checkpoint is run"},
    {"serve", "--load-format", "use --random-weights for 'dummy'; else safetensors are read"},
    {"serve", "--enable-lora --lora-modules --lora", "no LoRA; merge it into the checkpoint"},
    {"serve", "--seed -s --temp --temperature --top-p --top-k -n --n-predict",
     "each request brings its own"},
    {"serve",
     "--otlp-traces-endpoint --otlp-endpoint --otlp --otel --otel-endpoint --enable-trace "
     "--enable-tracing --trace --tracing",
     "use --otlp-traces http://HOST:4317"},
    {"serve", "--collect-detailed-traces", "traces of --otlp-traces have queue, prefill, decode"},
    {"serve", "--metrics", "use --admin HOST:PORT; it is on unless 'off'"},
    {"serve", "--disable-log-requests --uvicorn-log-level -lv --verbosity -v", "use --log-level"},
    {"serve", "--disable-log-stats", "use --stats-interval 0"},
    {"plan", "--max-model-len -c --ctx-size --max-context", "use --context"},
    {"plan", "--dtype", "use --weight-dtype"},
    {"plan", "--kv-cache-dtype", "use --kv-dtype"},
    {"generate", "-n --n-predict --max-new-tokens", "use --max-tokens"},
    {"generate", "--url --base-url --host --port", "use --server HOST:PORT, the gRPC address"},
    {"generate", "--api-key", "use --api-key-file, or MEA_API_KEY in the environment"},
    {"generate", "-s", "use --seed"},
    {"chat", "-n --n-predict --max-new-tokens", "use --max-tokens"},
    {"chat", "--url --base-url --host --port", "use --server HOST:PORT, the gRPC address"},
    {"chat", "--api-key", "use --api-key-file, or MEA_API_KEY in the environment"},
    {"chat", "-s", "use --seed"},
    {"chat", "-sys --system-prompt --system-message", "use --system"},
};

// The flag of `command` that is spelled most like this one, if any is; empty otherwise.
std::string NearestFlag(const CLI::App& command, std::string flag) {
  if (flag.size() > kMaxFlagBytes || !flag.starts_with("--")) return "";
  absl::AsciiStrToLower(&flag);
  flag = absl::StrReplaceAll(flag, {{"_", "-"}});
  size_t least = std::min<size_t>(3, (flag.size() - 2) / 3) + 1;
  std::string nearest, begun;
  int num_begun = 0;
  for (const CLI::Option* option : command.get_options()) {
    for (const std::string& name : option->get_lnames()) {
      const std::string candidate = "--" + name;
      if (flag.size() >= kMinPrefixBytes + 2 && candidate.starts_with(flag)) {
        begun = candidate;
        ++num_begun;
      }
      if (const size_t distance = EditDistance(flag, candidate); distance < least) {
        least = distance;
        nearest = candidate;
      }
    }
  }
  return nearest.empty() && num_begun == 1 ? begun : nearest;
}

bool IsFlag(const std::string& argument) {
  return argument.size() > 1 && argument[0] == '-' &&
         (argument[1] == '-' || absl::ascii_isalpha(static_cast<unsigned char>(argument[1])));
}

}  // namespace

std::string ExplainUnknownFlag(const CLI::App& command, const std::string& name) {
  const std::vector<std::string> unknown = command.remaining();
  const auto found = std::find_if(unknown.begin(), unknown.end(), IsFlag);
  if (found == unknown.end() || *found == "--") return "";
  const std::string flag = found->substr(0, found->find('='));
  const std::string dashed = absl::StrReplaceAll(flag, {{"_", "-"}});  // vLLM accepts both
  const std::string unknown_here = absl::StrCat(flag, " is no flag of ", name);
  for (const ForeignFlag& foreign : kForeignFlags) {
    if (foreign.command == command.get_name() && HasWord(foreign.flags, dashed)) {
      return absl::StrCat(unknown_here, ": ", std::string(foreign.answer));
    }
  }
  const std::string nearest = NearestFlag(command, flag);
  if (!nearest.empty()) return absl::StrCat(unknown_here, ": did you mean ", nearest, "?");
  return absl::StrCat(unknown_here, " (see ", name, " --help)");
}

}  // namespace mea
