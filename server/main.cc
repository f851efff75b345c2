#include <malloc.h>
#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <memory>
#include <new>
#include <string>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "engine/clock.h"
#include "engine/memory_shortage.h"
#include "engine/storage/lost_pages.h"
#include "server/build_info.h"
#include "server/cli/command.h"
#include "server/cli/help.h"
#include "server/cli/unknown_command.h"
#include "server/cli/unknown_flag.h"
#include "server/library_log.h"
#include "server/stderr_writer.h"

namespace {

using mea::kFailure;
using mea::kUsage;

constexpr absl::Duration kLastLineTimeout = absl::Seconds(1);

// Every failure is one line on stderr, which may have no reader.
int Fail(int code, const std::string& command, std::string message) {
  while (!message.empty() && message.back() == '\n') message.pop_back();
  message = absl::StrReplaceAll(message, {{"\n", "; "}});
  mea::StderrWriter writer;
  writer.End(mea::Now() + kLastLineTimeout);
  writer.Write(absl::StrCat(command, ": ", message, "\n"));
  return code;
}

// The command that was chosen, or the program itself, and its name with those of its parents.
struct Command {
  const CLI::App* app;
  std::string name;
};

Command ChosenCommand(const CLI::App& program) {
  Command command{&program, "mea"};
  for (auto chosen = program.get_subcommands(); !chosen.empty();
       chosen = command.app->get_subcommands()) {
    command.app = chosen.front();
    command.name += " " + command.app->get_name();
  }
  return command;
}

// A lack of memory or threads is not a status: no half-finished work can be trusted then, and gRPC
// swallows exceptions of its handlers, so a call would never end.
constexpr char kNoMemory[] = "out of memory; see --kv-cache-bytes, ulimit -v";
std::array<char, 64> command_name{};
std::terminate_handler usual_end = nullptr;

[[noreturn]] void EndInOneLine(const char* problem, const char* detail = "") {
  static std::atomic_flag is_ending;
  while (is_ending.test_and_set()) pause();  // if two threads get here, the first one reports
  std::array<char, 512> line;
  std::snprintf(line.data(), line.size(), "%s: %s%s\n", command_name.data(), problem, detail);
  mea::StderrWriter writer;
  writer.End(mea::Now() + kLastLineTimeout);
  writer.Write(line.data());
  _exit(kFailure);
}

void OnNoMemory() {
  if (mea::MemoryShortageThrows::Here()) throw std::bad_alloc();
  EndInOneLine(kNoMemory);
}

// If malloc fails, gRPC aborts and its libraries write to null pointers.
constexpr uintptr_t kNullPageBytes = 4096;
struct sigaction usual_abort, usual_fault;

void OnFault(int signal, siginfo_t* info, void*) {
  const bool is_null =
      signal == SIGABRT || reinterpret_cast<uintptr_t>(info->si_addr) < kNullPageBytes;
  if (errno == ENOMEM && is_null) EndInOneLine(kNoMemory);
  // The fault repeats when this returns.
  sigaction(signal, signal == SIGABRT ? &usual_abort : &usual_fault, nullptr);
}

[[noreturn]] void OnTerminate() {
  if (const std::exception_ptr thrown = std::current_exception()) {
    try {
      std::rethrow_exception(thrown);
    } catch (const std::bad_alloc&) {
      EndInOneLine(kNoMemory);
    } catch (const std::system_error& error) {
      if (error.code() == std::errc::resource_unavailable_try_again) {
        EndInOneLine("the system has no thread left for it; see --threads, ulimit -u and -v");
      }
    } catch (...) {
    }
  }
  usual_end();
  std::abort();
}

// Failures reach us as statuses, except these, after which gRPC calls abort.
void OnGrpcAssertion(const char* message) {
  EndInOneLine("gRPC cannot go on for want of threads, memory or files: ", message);
}

// The malloc arena of each thread takes 64 MiB of address space; if that is limited, all threads
// share one.
void SpareAddresses() {
  rlimit addresses{};
  if (getrlimit(RLIMIT_AS, &addresses) != 0 || addresses.rlim_cur == RLIM_INFINITY) return;
  mallopt(M_ARENA_MAX, 1);
}

void ExplainEnds(const std::string& command) {
  command.copy(command_name.data(), command_name.size() - 1);
  usual_end = std::set_terminate(OnTerminate);
  std::set_new_handler(OnNoMemory);
  struct sigaction action {};
  action.sa_sigaction = OnFault;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGABRT, &action, &usual_abort);
  sigaction(SIGSEGV, &action, &usual_fault);
  mea::ExitOnLostPages(command, mea::kLostPages);
}

}  // namespace

int main(int argc, char** argv) {
  SpareAddresses();
  std::signal(SIGXFSZ, SIG_IGN);  // a write beyond the file size limit returns an error
  mea::LibraryLog::Silence(OnGrpcAssertion);

  CLI::App program("LLM inference whose KV cache holds only component heads", "mea");
  program.footer(
      "\nmea COMMAND --help explains a command. To begin with: mea serve DIR, then mea chat.");
  program.require_subcommand(0, 1);  // 0 is refused below: CLI11 would not name an unknown one
  program.set_version_flag("--version", mea::Version());
  program.formatter(std::make_shared<mea::HelpFormatter>());
  program.get_formatter()->column_width(34);
  mea::Action action;
  mea::AddServe(program, action);
  mea::AddGenerate(program, action);
  mea::AddChat(program, action);
  mea::AddHealth(program, action);
  mea::AddInspect(program, action);
  mea::AddPlan(program, action);
  mea::AddEval(program, action);
  mea::AddConvert(program, action);
  mea::AddBench(program, action);
  mea::AddKey(program, action);
  try {
    program.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return program.exit(error);  // --help, --version
    const auto [app, name] = ChosenCommand(program);
    // First, because the arguments after an unknown flag were misread.
    std::string unknown = mea::ExplainUnknownCommand(*app, name);
    if (unknown.empty()) unknown = mea::ExplainUnknownFlag(*app, name);
    return Fail(
        kUsage, name,
        unknown.empty() ? std::string(error.what()) + " (see " + name + " --help)" : unknown);
  }
  const std::string name = ChosenCommand(program).name;
  if (!action) return Fail(kUsage, name, "a command is required (see " + name + " --help)");
  ExplainEnds(name);
  absl::Status status = action();
  if (status.ok()) status = mea::FlushOutput();
  if (!status.ok()) return Fail(mea::ExitCodeOf(status), name, std::string(status.message()));
  return 0;
}
