#include "server/cli/signals.h"

#include <pthread.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <utility>

namespace mea {
namespace {

sigset_t EndingSignals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  return set;
}

}  // namespace

Signals::Signals(std::string early_line) : early_line_(std::move(early_line)) {
  const sigset_t set = EndingSignals();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  std::thread([this] { Run(); }).detach();
}

void Signals::Run() {
  const sigset_t set = EndingSignals();
  for (;;) {
    int signal = 0;
    sigwait(&set, &signal);
    if (!armed_) {
      const char* clear = isatty(STDERR_FILENO) == 1 ? "\r\033[K" : "";  // the progress display
      dprintf(STDERR_FILENO, "%s%s\n", clear, early_line_.c_str());
    }
    if (!armed_ || received_.HasBeenNotified()) _exit(128 + signal);
    received_.Notify();
  }
}

}  // namespace mea
