#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/access/api_key.h"
#include "server/access/key_file.h"
#include "server/cli/command.h"
#include "server/cli/size.h"

namespace mea {
namespace {

constexpr char kKeyExamples[] = R"(
Examples:
  mea key new alice >> keys.jsonl                        the token appears on the terminal, once
  mea key new prometheus --rights metrics >> keys.jsonl
  mea key new bob --requests-per-minute 60 --tokens-per-minute 100000 --concurrent-requests 4

Then: mea serve DIR --api-key-file keys.jsonl. The file holds a hash of each token, not the token;
a server that runs takes a new line within a second.
)";

struct NewKeyFlags {
  ApiKey key;
  std::vector<std::string> rights = {"inference"};
  std::string kv_cache_bytes = "0";
};

// The line for the file on stdout, so that it can be appended; the token on stderr.
absl::Status MakeKey(NewKeyFlags flags) {
  if (absl::Status status = CheckKeyName(flags.key.name); !status.ok()) return status;
  for (const std::string& name : flags.rights) {
    const absl::StatusOr<Right> right = ParseRight(name);
    if (!right.ok()) return right.status();
    flags.key.rights[static_cast<size_t>(*right)] = true;
  }
  const absl::StatusOr<int64_t> bytes = ParseSize("--kv-cache-bytes", flags.kv_cache_bytes);
  if (!bytes.ok()) return bytes.status();
  flags.key.limits.kv_cache_bytes = *bytes;
  const absl::StatusOr<std::string> token = NewToken();
  if (!token.ok()) return token.status();
  flags.key.hash = HashOf(*token);
  std::printf("%s\n", KeyFileLine(flags.key).c_str());
  if (absl::Status status = FlushOutput(); !status.ok()) return status;
  std::fprintf(stderr, "%s\n", token->c_str());
  return absl::OkStatus();
}

}  // namespace

void AddKey(CLI::App& program, Action& action) {
  CLI::App& keys = *program.add_subcommand("key", "Make API keys");
  keys.require_subcommand(1);
  CLI::App& command = *keys.add_subcommand("new", "A line for --api-key-file, and its token");
  command.footer(kKeyExamples);
  auto flags = std::make_shared<NewKeyFlags>();
  command.add_option("name", flags->key.name, "Of its owner, as metrics and messages show it")
      ->required();
  command
      .add_option("--rights", flags->rights,
                  "inference; control: the server's state, ending others' requests; metrics")
      ->delimiter(',')
      ->capture_default_str();
  KeyLimits& limits = flags->key.limits;
  const auto add_limit = [&](const char* name, int64_t& limit, const char* help) {
    command.add_option(name, limit, help)->check(CLI::PositiveNumber);
  };
  add_limit("--requests-per-minute", limits.requests_per_minute, "At most; default: no limit");
  add_limit("--tokens-per-minute", limits.tokens_per_minute,
            "Of prompts and completions together, at most");
  add_limit("--concurrent-requests", limits.concurrent_requests, "At once, at most");
  command
      .add_option("--kv-cache-bytes", flags->kv_cache_bytes,
                  "That its requests may hold at once, e.g. 1GiB; 0: no limit")
      ->type_name("SIZE");
  command.callback([flags, &action] { action = [flags] { return MakeKey(*flags); }; });
}

}  // namespace mea
