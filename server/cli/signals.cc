#include "server/cli/signals.h"

#include <pthread.h>
#include <unistd.h>

#include <csignal>

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

Signals::Signals() {
  const sigset_t set = EndingSignals();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  std::thread([this] { Run(); }).detach();
}

void Signals::Run() {
  const sigset_t set = EndingSignals();
  for (;;) {
    int signal = 0;
    sigwait(&set, &signal);
    if (!armed_ || received_.HasBeenNotified()) _exit(128 + signal);
    received_.Notify();
  }
}

}  // namespace mea
