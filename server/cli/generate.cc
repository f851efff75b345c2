#include <google/protobuf/util/json_util.h>

#include <cstdio>
#include <iostream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "engine/clock.h"
#include "kernels/human_bytes.h"
#include "kernels/status_macros.h"
#include "mea/v1/inference.grpc.pb.h"
#include "server/cli/command.h"
#include "server/cli/generate_flags.h"
#include "server/client.h"

namespace mea {
namespace {

constexpr char kGenerateExamples[] = R"(
Examples:
  mea generate -p "Once upon a time"                       prints the text as it comes
  mea generate -p "2, 4, 6," --max-tokens 20 --temperature 0 --stop "."
  cat letter.txt | mea generate --server 10.0.0.7:50051    the prompt from standard input
  mea generate -p "Hello" --json                           one JSON object per event
  mea generate -p "Once" --n 4 --temperature 0.9 --echo    four completions, each with its prompt

The text goes to standard output; a line about speed and cache memory to standard error.
)";

// Follows one generation: when its first token came, and how its completions ended.
struct Report {
  absl::Time start = Now();
  absl::Time first_token = absl::InfiniteFuture();
  std::vector<v1::Finish> finishes;  // in the order in which they end
};

std::string Json(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  std::string json;
  // Every message of mea.v1 has a JSON form.
  (void)google::protobuf::util::MessageToJsonString(message, &json, options);
  return json;
}

void WriteOut(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

// Prints completions one after the other: the first as it arrives, the others when the one before
// has ended. Several completions are numbered.
class CompletionPrinter {
 public:
  explicit CompletionPrinter(int n) : completions_(n) {}

  // A completion that was not requested is not printed.
  void Add(int index, const std::string& text) {
    if (!IsKnown(index)) return;
    completions_[index].unprinted += text;
    if (index == current_) PrintCurrent();
  }
  void End(int index) {
    if (!IsKnown(index)) return;
    completions_[index].ended = true;
    for (; current_ < num() && completions_[current_].ended; ++current_) {
      PrintCurrent();
      WriteOut("\n");
    }
    if (current_ < num()) PrintCurrent();
  }
  // There is no more output: the next message begins on a new line.
  void BreakOff() {
    if (current_ < num() && completions_[current_].begun) WriteOut("\n");
  }

 private:
  struct Completion {
    std::string unprinted;
    bool begun = false;
    bool ended = false;
  };

  int num() const { return static_cast<int>(completions_.size()); }
  bool IsKnown(int index) const { return index >= 0 && index < num(); }
  void PrintCurrent() {
    Completion& completion = completions_[current_];
    if (num() > 1 && !completion.begun) WriteOut(absl::StrCat("[", current_ + 1, "] "));
    completion.begun = true;
    WriteOut(completion.unprinted);
    completion.unprinted.clear();
  }

  std::vector<Completion> completions_;
  int current_ = 0;
};

grpc::Status Stream(v1::Inference::Stub& stub, grpc::ClientContext& context,
                    const v1::GenerateRequest& request, bool json, Report& report) {
  const auto reader = stub.GenerateStream(&context, request);
  CompletionPrinter printer(request.sampling().n());
  for (v1::GenerateStreamResponse event; reader->Read(&event);) {
    if (json) WriteOut(absl::StrCat(Json(event), "\n"));
    if (event.has_delta()) {
      report.first_token = std::min(report.first_token, Now());
      if (!json) printer.Add(event.delta().index(), event.delta().text());
    } else if (event.has_finish()) {
      report.finishes.push_back(event.finish());
      if (!json) printer.End(event.finish().index());
    }
  }
  const grpc::Status status = reader->Finish();
  if (!status.ok() && !json) printer.BreakOff();
  return status;
}

grpc::Status Call(v1::Inference::Stub& stub, grpc::ClientContext& context,
                  const v1::GenerateRequest& request, bool json, Report& report) {
  v1::GenerateResponse response;
  const grpc::Status status = stub.Generate(&context, request, &response);
  if (!status.ok()) return status;
  if (json) WriteOut(absl::StrCat(Json(response), "\n"));
  CompletionPrinter printer(response.completions_size());
  for (const v1::Completion& completion : response.completions()) {
    report.finishes.push_back(completion.finish());
    if (json) continue;
    printer.Add(completion.finish().index(), completion.text());
    printer.End(completion.finish().index());
  }
  return status;
}

std::string Ending(const v1::Finish& finish) {
  switch (finish.stop_match_case()) {
    case v1::Finish::kEosTokenId:
      return absl::StrCat("end of sequence ", finish.eos_token_id());
    case v1::Finish::kStopTokenId:
      return absl::StrCat("stop token ", finish.stop_token_id());
    case v1::Finish::kStopString:
      return absl::StrCat("stop string '", finish.stop_string(), "'");
    case v1::Finish::STOP_MATCH_NOT_SET:
      break;
  }
  return finish.reason() == v1::FINISH_REASON_LENGTH ? "length" : "stop";
}

// "7 prompt + 24 tokens in 0.61 s (39.3 tokens/s, first after 0.05 s), length; KV cache ..."; with
// several completions, the cache and the seed are those of the first that ended.
std::string Summary(const Report& report) {
  const v1::Finish& finish = report.finishes.front();
  const v1::Usage& usage = finish.usage();
  const double seconds = absl::ToDoubleSeconds(Now() - report.start);
  const std::string first =
      report.first_token == absl::InfiniteFuture()
          ? ""
          : absl::StrFormat(", first after %.2f s",
                            absl::ToDoubleSeconds(report.first_token - report.start));
  const double ratio = usage.kv_bytes_uncompressed() == 0
                           ? 1.0
                           : static_cast<double>(usage.kv_bytes()) /
                                 static_cast<double>(usage.kv_bytes_uncompressed());
  int tokens = 0;
  std::vector<std::string> endings;
  for (const v1::Finish& end : report.finishes) {
    tokens += end.usage().completion_tokens();
    endings.push_back(Ending(end));
  }
  return absl::StrFormat(
      "%d prompt + %d tokens in %.2f s (%.1f tokens/s%s), %s; KV cache %s, %s uncompressed (%.3f); "
      "seed %d",
      usage.prompt_tokens(), tokens, seconds, tokens / seconds, first, absl::StrJoin(endings, ", "),
      HumanBytes(usage.kv_bytes()), HumanBytes(usage.kv_bytes_uncompressed()), ratio,
      finish.seed());
}

absl::Status Generate(GenerateFlags flags) {
  if (flags.prompt.empty()) {
    flags.prompt.assign(std::istreambuf_iterator<char>(std::cin), {});
    if (flags.prompt.empty()) {
      return absl::InvalidArgumentError("no prompt: give --prompt, or text on standard input");
    }
  }
  const v1::GenerateRequest request = flags.ToRequest();
  MEA_ASSIGN_OR_RETURN(const auto channel, OpenChannel(flags.server, flags.credentials));
  const auto stub = v1::Inference::NewStub(channel);
  grpc::ClientContext context;
  if (flags.timeout_s > 0) {
    context.set_deadline(absl::ToChronoTime(ToWallClock(Now() + absl::Seconds(flags.timeout_s))));
  }
  Report report;
  const grpc::Status status = flags.stream ? Stream(*stub, context, request, flags.json, report)
                                           : Call(*stub, context, request, flags.json, report);
  if (!status.ok()) return ToAbslStatus(status, flags.server);
  if (!flags.json && !report.finishes.empty())
    std::fprintf(stderr, "%s\n", Summary(report).c_str());
  return absl::OkStatus();
}

}  // namespace

void AddGenerate(CLI::App& program, Action& action) {
  CLI::App& command = *program.add_subcommand("generate", "Complete a prompt on a server");
  command.footer(kGenerateExamples);
  auto flags = std::make_shared<GenerateFlags>();
  flags->AddTo(command);
  command.callback([flags, &action] { action = [flags] { return Generate(*flags); }; });
}

}  // namespace mea
