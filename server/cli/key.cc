#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/status_macros.h"
#include "server/access/api_key.h"
#include "server/access/key_file.h"
#include "server/access/small_file.h"
#include "server/cli/command.h"
#include "server/cli/in_range.h"
#include "server/cli/size.h"

namespace mea {
namespace {

constexpr char kKeyExamples[] = R"(
Examples:
  mea key new alice --api-key-file keys.jsonl            adds a line to the file and prints the token
  mea key new alice >> keys.jsonl                        the same; the token appears on the terminal
  mea key new prometheus --rights metrics --api-key-file keys.jsonl > prometheus.token
  mea key new bob --requests-per-minute 60 --tokens-per-minute 100000 --concurrent-requests 4

Then: mea serve DIR --api-key-file keys.jsonl. The file holds a hash of each token, not the token:
a token that is lost is replaced by a new one. A running server takes a new line within a second.
)";

struct NewKeyFlags {
  ApiKey key;
  std::vector<std::string> rights = {"inference"};
  std::string file;
};

// Prints to stdout, so that it can be piped or appended: the token if the key went into a file,
// otherwise the line of the key.
absl::Status PrintLine(const std::string& line) {
  std::printf("%s\n", line.c_str());
  return FlushOutput();
}

// Adds the line of a key to a file that may not exist yet.
absl::Status AppendKey(const std::string& path, const ApiKey& key) {
  std::string text;
  std::error_code error;
  if (std::filesystem::exists(path, error)) {
    MEA_ASSIGN_OR_RETURN(text, ReadSmallFile(path, kMaxKeyFileBytes));
  }
  const bool ends_open = !text.empty() && text.back() != '\n';
  const std::string added = absl::StrCat(ends_open ? "\n" : "", KeyFileLine(key), "\n");
  // The same check as the server's: because of a duplicate name it would ignore all new keys.
  if (const auto keys = ParseKeyFile(text + added); !keys.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": ", std::string(keys.status().message())));
  }
  std::ofstream file(path, std::ios::app | std::ios::binary);
  file << added;
  file.close();
  return file ? absl::OkStatus() : absl::UnavailableError(absl::StrCat(path, ": cannot write"));
}

absl::Status MakeKey(NewKeyFlags flags) {
  MEA_RETURN_IF_ERROR(CheckKeyName(flags.key.name));
  for (const std::string& name : flags.rights) {
    MEA_ASSIGN_OR_RETURN(const Right right, ParseRight(name));
    flags.key.rights[static_cast<size_t>(right)] = true;
  }
  MEA_ASSIGN_OR_RETURN(const std::string token, NewToken());
  flags.key.hash = HashOf(token);
  constexpr char kUse[] =
      "Clients send it as api_key or as \"Authorization: Bearer TOKEN\"; mea's own read it from "
      "MEA_API_KEY. It is not shown again.";
  if (flags.file.empty()) {
    MEA_RETURN_IF_ERROR(PrintLine(KeyFileLine(flags.key)));
    std::fprintf(
        stderr,
        "%s\nThis is the token of %s. %s\nThe line on standard output goes into the file of "
        "mea serve --api-key-file.\n",
        token.c_str(), flags.key.name.c_str(), kUse);
    return absl::OkStatus();
  }
  MEA_RETURN_IF_ERROR(AppendKey(flags.file, flags.key));
  std::fprintf(stderr, "%s has a new line for %s, and this is the token. %s\n", flags.file.c_str(),
               flags.key.name.c_str(), kUse);
  return PrintLine(token);
}

}  // namespace

void AddKey(CLI::App& program, Action& action) {
  CLI::App& keys = *program.add_subcommand("key", "Make API keys");
  keys.require_subcommand(1);
  CLI::App& command =
      *keys.add_subcommand("new", "Make a key: a line for serve --api-key-file, and its token");
  command.footer(kKeyExamples);
  auto flags = std::make_shared<NewKeyFlags>();
  command.add_option("name", flags->key.name, "Its owner, as metrics and messages show it")
      ->required();
  command
      .add_option(
          "--rights", flags->rights,
          "What it may do: inference; control (see the server's state, end any request); metrics")
      ->delimiter(',')
      ->capture_default_str();
  KeyLimits& limits = flags->key.limits;
  const auto add_limit = [&](const char* name, int64_t& limit, const char* help) {
    command.add_option(name, limit, help)->check(InRange(int64_t{1}, kMaxKeyLimit));
  };
  add_limit("--requests-per-minute", limits.requests_per_minute,
            "Most requests in a minute; default: no limit");
  add_limit("--tokens-per-minute", limits.tokens_per_minute,
            "Most tokens of prompts and completions in a minute");
  add_limit("--concurrent-requests", limits.concurrent_requests, "Most requests at once");
  command
      .add_option("--api-key-file", flags->file,
                  "Add the key's line to this file and print the token alone; default: print the "
                  "line, and the token on standard error")
      ->type_name("FILE");
  command
      .add_option("--kv-cache-bytes", flags->key.limits.kv_cache_bytes,
                  "Most cache that its requests may hold at once, e.g. 1GiB; 0: no limit")
      ->transform(SizeInBytes())
      ->type_name("SIZE");
  command.callback([flags, &action] { action = [flags] { return MakeKey(*flags); }; });
}

}  // namespace mea
