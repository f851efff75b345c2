#include "server/cli/interrupts.h"

#include <pthread.h>

#include <csignal>
#include <thread>
#include <utility>

namespace mea {

Interrupts::Interrupts(std::function<void()> when_idle) : when_idle_(std::move(when_idle)) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  std::thread([this] { Run(); }).detach();
}

void Interrupts::Begin(std::function<void()> cancel) {
  absl::MutexLock lock(&mu_);
  cancel_ = std::move(cancel);
  fired_ = false;
}

bool Interrupts::End() {
  absl::MutexLock lock(&mu_);
  cancel_ = nullptr;
  return fired_;
}

void Interrupts::Run() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  for (;;) {
    int signal = 0;
    sigwait(&set, &signal);
    absl::MutexLock lock(&mu_);
    if (!cancel_) {
      when_idle_();
      continue;
    }
    fired_ = true;
    cancel_();
  }
}

}  // namespace mea
