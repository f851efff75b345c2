#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <fstream>
#include <regex>
#include <string>
#include <utility>
#include <vector>

#include "tests/server/server_fixture.h"

namespace mea::testing {

inline constexpr char kModel[] = MEA_SOURCE_DIR "/models/demo-mea";

// A child process; what it prints on stdout and stderr can be read line by line.
class Process {
 public:
  explicit Process(std::vector<std::string> arguments) {
    int out[2];
    int err[2];
    EXPECT_EQ(pipe2(out, O_CLOEXEC), 0);
    EXPECT_EQ(pipe2(err, O_CLOEXEC), 0);
    std::vector<char*> argv = {const_cast<char*>(MEA_BINARY)};
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    pid_ = fork();
    if (pid_ == 0) {
      dup2(out[1], STDOUT_FILENO);
      dup2(err[1], STDERR_FILENO);
      execv(MEA_BINARY, argv.data());
      _exit(127);
    }
    close(out[1]);
    close(err[1]);
    out_ = fdopen(out[0], "r");
    err_ = fdopen(err[0], "r");
  }
  ~Process() {
    if (pid_ > 0) {
      kill(pid_, SIGKILL);
      Wait();
    }
    fclose(out_);
    CloseErrors();
  }
  void CloseErrors() {
    if (err_ != nullptr) fclose(std::exchange(err_, nullptr));
  }

  std::string ReadLine() { return ReadUntil(out_, '\n'); }
  std::string ReadErrorLine() { return ReadUntil(err_, '\n'); }
  std::string ReadErrors() { return ReadUntil(err_, EOF); }  // until the process ends
  int64_t ResidentBytes() const {
    std::ifstream statm("/proc/" + std::to_string(pid_) + "/statm");
    int64_t pages = 0;
    int64_t resident_pages = 0;
    statm >> pages >> resident_pages;
    return resident_pages * sysconf(_SC_PAGESIZE);
  }
  void AllowNoMoreDescriptors() {
    const rlimit none = {3, 3};
    EXPECT_EQ(prlimit(pid_, RLIMIT_NOFILE, &none, nullptr), 0);
  }
  // Until it was waited for, an end is seen without taking its status.
  bool IsRunning() const {
    siginfo_t info{};
    return waitid(P_PID, pid_, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == 0;
  }
  void Signal(int signal) { kill(pid_, signal); }
  int Wait() {
    int status = 0;
    waitpid(pid_, &status, 0);
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }

 private:
  static std::string ReadUntil(FILE* file, int end) {
    std::string text;
    for (int c; (c = std::fgetc(file)) != EOF && c != end;) text += static_cast<char>(c);
    return text;
  }

  pid_t pid_ = -1;
  FILE* out_ = nullptr;
  FILE* err_ = nullptr;
};

// `mea serve` of the demo model, without HTTP.
inline Process Serve(const std::string& listen = "127.0.0.1:0",
                     const std::vector<std::string>& more = {"--log-level", "off"}) {
  std::vector<std::string> arguments = {"serve", kModel,   "--listen", listen,      "--admin",
                                        "off",   "--http", "off",      "--threads", "1"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return Process(std::move(arguments));
}

// The address that the ready line names.
inline std::string ListenAddress(const std::string& ready_line) {
  std::smatch match;
  EXPECT_TRUE(std::regex_search(
      ready_line, match,
      std::regex("^serving demo-mea: gRPC ([^,]+), OpenAI API off, metrics off; KV")))
      << ready_line;
  return match[1];
}

inline std::shared_ptr<grpc::Channel> Connect(const std::string& ready_line) {
  return grpc::CreateChannel(ListenAddress(ready_line), grpc::InsecureChannelCredentials());
}

}  // namespace mea::testing
