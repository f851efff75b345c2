#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <iostream>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/clock.h"
#include "kernels/human_bytes.h"
#include "kernels/status_macros.h"
#include "mea/v1/control.grpc.pb.h"
#include "mea/v1/inference.grpc.pb.h"
#include "server/cli/client_flags.h"
#include "server/cli/command.h"
#include "server/cli/interrupts.h"
#include "server/cli/line_editor.h"
#include "server/cli/sampling_flags.h"

namespace mea {
namespace {

constexpr char kChatExamples[] = R"(
Examples:
  mea chat                                              talks to the server on 127.0.0.1:50051
  mea chat --server 10.0.0.7:50051 --system "Be brief."
  mea chat --temperature 0 --max-tokens 200
  echo "What is a KV cache?" | mea chat                 one question, one answer

Ctrl-C ends an answer or drops the line that is typed, Ctrl-D ends the chat; the arrows go through
the lines before, Ctrl-R searches them. /help lists the commands.
)";

constexpr char kHelp[] =
    "  /system [TEXT] show the system message; with TEXT: begin anew with this one\n"
    "  /regenerate    answer the last question once more\n"
    "  /undo          forget the last question and its answer\n"
    "  /history       show the conversation\n"
    "  /stats         tokens, speed and cache memory of the last answer\n"
    "  /clear         begin anew\n"
    "  /exit          end\n"
    "  \"\"\"            on a line of its own: begins and ends a text of several lines\n";

constexpr char kTextMark[] = "\"\"\"";

struct ChatFlags {
  std::string server = kDefaultServer;
  ClientCredentials credentials;
  std::string model;
  std::string system;
  std::string template_kwargs;
  SamplingFlags sampling;
  std::optional<int> max_tokens;
};

void Print(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

// Whether a person reads and types; if not, there are no prompts, commands or notes.
bool IsAtTerminal() { return isatty(STDIN_FILENO) == 1 && isatty(STDOUT_FILENO) == 1; }

// A conversation with a server, and the statistics of its last answer.
class ChatClient {
 public:
  ChatClient(ChatFlags flags, std::shared_ptr<grpc::Channel> channel, Interrupts& interrupts)
      : flags_(std::move(flags)),
        interrupts_(interrupts),
        channel_(std::move(channel)),
        stub_(v1::Inference::NewStub(channel_)),
        is_terminal_(IsAtTerminal()),
        editor_(is_terminal_ ? std::make_unique<LineEditor>() : nullptr) {
    Clear(flags_.system);
  }

  absl::Status Run() {
    MEA_RETURN_IF_ERROR(Greet());
    for (;;) {
      const std::optional<std::string> line = ReadInput();
      if (!line) return absl::OkStatus();
      if (line->empty()) continue;
      if (is_terminal_ && line->front() == '/') {
        if (*line == "/exit" || *line == "/quit") return absl::OkStatus();
        MEA_RETURN_IF_ERROR(Command(*line));
        continue;
      }
      AddMessage("user", *line);
      MEA_RETURN_IF_ERROR(Answer());
    }
  }

 private:
  // Checks, before anybody types, that there is a server and a model that can chat.
  absl::Status Greet() {
    v1::GetModelInfoRequest request;
    request.set_model(flags_.model);
    v1::GetModelInfoResponse info;
    grpc::ClientContext context;
    interrupts_.Begin([&context] { context.TryCancel(); });
    const grpc::Status status =
        v1::Control::NewStub(channel_)->GetModelInfo(&context, request, &info);
    if (interrupts_.End()) return absl::CancelledError("interrupted");
    if (!status.ok()) return ToAbslStatus(status, flags_.server);
    if (!info.chat().is_available()) {
      return absl::FailedPreconditionError(
          absl::StrCat("the model '", info.name(),
                       "' has no chat template: use mea generate, or "
                       "start the server with --chat-template FILE"));
    }
    max_context_ = info.limits().max_context();
    if (is_terminal_) {
      Note(absl::StrCat(info.name(), " on ", flags_.server, "; /help lists commands, Ctrl-D ends"));
    }
    return absl::OkStatus();
  }

  void Note(const std::string& text) const { std::fprintf(stderr, "%s\n", text.c_str()); }

  void AddMessage(const std::string& role, const std::string& content) {
    v1::ChatMessage& message = *chat_.add_messages();
    message.set_role(role);
    message.set_content(content);
  }
  void Clear(const std::string& system) {
    chat_.clear_messages();
    if (!system.empty()) AddMessage("system", system);
  }

  // A line, or lines between two of """; nothing at the end of the input. If no person types, the
  // whole input is one question.
  std::optional<std::string> ReadInput() {
    if (!is_terminal_) {
      std::string all(std::istreambuf_iterator<char>(std::cin), {});
      while (!all.empty() && all.back() == '\n') all.pop_back();
      return all.empty() ? std::nullopt : std::optional(all);
    }
    using Outcome = LineEditor::Outcome;
    std::string line;
    const Outcome outcome = editor_->Read("> ", line);
    if (outcome == Outcome::kEnd) return std::nullopt;
    if (outcome == Outcome::kDropped) return "";
    if (line != kTextMark) return std::string(absl::StripAsciiWhitespace(line));
    std::string text;
    for (;;) {
      const Outcome next = editor_->Read("... ", line);
      if (next == Outcome::kDropped) return "";
      if (next == Outcome::kEnd || line == kTextMark) return text;
      absl::StrAppend(&text, line, "\n");
    }
  }

  absl::Status Command(const std::string& line) {
    const size_t space = line.find(' ');
    const std::string name = line.substr(0, space);
    const std::string rest =
        space == line.npos ? "" : std::string(absl::StripAsciiWhitespace(line.substr(space)));
    if (name == "/help") {
      Print(kHelp);
    } else if (name == "/system" && rest.empty()) {
      const bool has_one = chat_.messages_size() > 0 && chat_.messages(0).role() == "system";
      Note(has_one ? chat_.messages(0).content() : "there is no system message");
    } else if (name == "/system") {
      Clear(rest);
      Note("a new conversation");
    } else if (name == "/clear") {
      Clear("");
      Note("a new conversation");
    } else if (name == "/regenerate") {
      if (!Forget("assistant")) {
        Note("there is no answer yet");
        return absl::OkStatus();
      }
      return Answer();
    } else if (name == "/undo") {
      Forget("assistant");
      Note(Forget("user") ? "the last question is forgotten" : "there is no question yet");
    } else if (name == "/history") {
      for (const v1::ChatMessage& message : chat_.messages()) {
        Print(absl::StrCat(message.role(), ": ", message.content(), "\n"));
      }
    } else if (name == "/stats") {
      Note(last_stats_.empty() ? "there is no answer yet" : last_stats_);
    } else {
      Note(absl::StrCat(name, " is no command; /help shows them"));
    }
    return absl::OkStatus();
  }
  // Drops the last message if it is of this role.
  bool Forget(const std::string& role) {
    const int count = chat_.messages_size();
    if (count == 0 || chat_.messages(count - 1).role() != role) return false;
    chat_.mutable_messages()->RemoveLast();
    return true;
  }

  v1::GenerateRequest Request() const {
    v1::GenerateRequest request;
    request.set_model(flags_.model);
    *request.mutable_chat() = chat_;
    request.mutable_chat()->set_template_kwargs(flags_.template_kwargs);
    flags_.sampling.Set(*request.mutable_sampling());
    if (flags_.max_tokens) request.mutable_stopping()->set_max_tokens(*flags_.max_tokens);
    return request;
  }

  // Streams an answer to the conversation and adds it. A person sees the error and may ask again,
  // also after a restart of the server.
  absl::Status Answer() {
    const v1::GenerateRequest request = Request();
    grpc::ClientContext context;
    const absl::Time start = Now();
    absl::Time first = absl::InfiniteFuture();
    std::string content;
    bool thinking = false;
    v1::Finish finish;
    const auto reader = stub_->GenerateStream(&context, request);
    interrupts_.Begin([&context] { context.TryCancel(); });
    for (v1::GenerateStreamResponse event; reader->Read(&event);) {
      if (event.has_finish()) finish = event.finish();
      if (!event.has_delta()) continue;
      first = std::min(first, Now());
      const v1::Reply& reply = event.delta().reply();
      if (!reply.reasoning().empty() && is_terminal_) {
        if (!std::exchange(thinking, true)) Print("[thinking] ");
        Print(reply.reasoning());
      }
      if (reply.content().empty()) continue;
      if (std::exchange(thinking, false)) Print("\n[answer] ");
      Print(reply.content());
      content += reply.content();
    }
    const grpc::Status status = reader->Finish();
    if (is_terminal_ || status.ok()) Print("\n");
    const bool interrupted = interrupts_.End();
    if (status.error_code() == grpc::StatusCode::CANCELLED && interrupted) {
      Note("[interrupted]");
      last_stats_ = "the last answer was interrupted";
    } else if (!status.ok()) {
      Forget("user");
      if (!is_terminal_) return ToAbslStatus(status, flags_.server);
      Note(std::string(ToAbslStatus(status, flags_.server).message()));
      return absl::OkStatus();
    }
    AddMessage("assistant", content);
    if (status.ok()) last_stats_ = Stats(finish, Now() - start, first - start);
    if (finish.reason() == v1::FINISH_REASON_LENGTH) Note(LimitMet(finish));
    return absl::OkStatus();
  }

  // Why the answer is incomplete.
  std::string LimitMet(const v1::Finish& finish) const {
    const v1::Usage& usage = finish.usage();
    if (usage.prompt_tokens() + usage.completion_tokens() >= max_context_) {
      return absl::StrCat("[cut: the context of ", max_context_, " tokens is full",
                          is_terminal_ ? "; /clear begins anew]" : "]");
    }
    const std::string cut = absl::StrCat("[cut after ", usage.completion_tokens(), " tokens");
    return cut + (flags_.max_tokens ? ", the --max-tokens given]"
                                    : ", the default of this model; see --max-tokens]");
  }

  static std::string Stats(const v1::Finish& finish, absl::Duration total, absl::Duration first) {
    const v1::Usage& usage = finish.usage();
    const double seconds = absl::ToDoubleSeconds(total);
    return absl::StrFormat(
        "%d prompt tokens (%d from the prefix cache), %d answered in %.2f s (%.1f tokens/s, first "
        "after %.2f s); this conversation holds %s of KV cache, %s with every head stored",
        usage.prompt_tokens(), usage.cached_tokens(), usage.completion_tokens(), seconds,
        usage.completion_tokens() / seconds, absl::ToDoubleSeconds(first),
        HumanBytes(usage.kv_bytes()), HumanBytes(usage.kv_bytes_uncompressed()));
  }

  const ChatFlags flags_;
  Interrupts& interrupts_;
  const std::shared_ptr<grpc::Channel> channel_;
  const std::unique_ptr<v1::Inference::Stub> stub_;
  const bool is_terminal_;
  const std::unique_ptr<LineEditor> editor_;  // of a terminal
  v1::Chat chat_;
  std::string last_stats_;
  int max_context_ = 0;  // tokens of a conversation, including answers
};

absl::Status Chat(const ChatFlags& flags) {
  // Created before the threads of gRPC; its own thread lives as long as the program. At a prompt
  // the editor handles Ctrl-C.
  static Interrupts& interrupts = *new Interrupts([] {
    if (!IsAtTerminal()) _exit(128 + SIGINT);
  });
  MEA_ASSIGN_OR_RETURN(auto channel, OpenChannel(flags.server, flags.credentials));
  return ChatClient(flags, std::move(channel), interrupts).Run();
}

}  // namespace

void AddChat(CLI::App& program, Action& action) {
  CLI::App& command = *program.add_subcommand("chat", "Talk with a model on a server");
  command.footer(kChatExamples);
  auto flags = std::make_shared<ChatFlags>();
  AddClientFlags(command, flags->server, flags->credentials);
  command.add_option("--model", flags->model, "Name of the model; default: the one that is served");
  command.add_option("--system", flags->system, "System message");
  command.add_option("--template-kwargs", flags->template_kwargs,
                     "Variables of the chat template as JSON, e.g. '{\"enable_thinking\": false}'");
  flags->sampling.AddTo(command);
  command.add_option("--max-tokens", flags->max_tokens, "Most tokens of an answer");
  command.callback([flags, &action] { action = [flags] { return Chat(*flags); }; });
}

}  // namespace mea
