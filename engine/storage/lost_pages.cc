#include "engine/storage/lost_pages.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <string_view>

namespace mea {
namespace {

// One mapped file. The handler takes no lock and may interrupt a thread that fills in an entry, so
// `data` is written last.
struct Listed {
  std::atomic<bool> taken{false};
  std::atomic<const char*> data{nullptr};
  std::atomic<int64_t> size{0};
  std::atomic<const char*> path{nullptr};
};
std::array<Listed, 8192> listed;

std::array<char, 256> program_name{};
int exit_code_of_loss = 1;

void WriteToStderr(std::string_view text) {
  while (!text.empty()) {
    const ssize_t count = write(STDERR_FILENO, text.data(), text.size());
    if (count <= 0) return;
    text.remove_prefix(static_cast<size_t>(count));
  }
}

// Calls only functions that are safe in a handler: write, signal, raise, _exit.
void OnSigbus(int, siginfo_t* info, void*) {
  const auto address = reinterpret_cast<uintptr_t>(info->si_addr);
  for (const Listed& file : listed) {
    const auto begin = reinterpret_cast<uintptr_t>(file.data.load(std::memory_order_acquire));
    const auto size = static_cast<uintptr_t>(file.size.load(std::memory_order_relaxed));
    if (begin == 0 || address < begin || address - begin >= size) continue;
    WriteToStderr(program_name.data());
    WriteToStderr(": ");
    WriteToStderr(file.path.load(std::memory_order_relaxed));
    WriteToStderr(
        ": lost while it was in use: cut short, or its disk failed; a checkpoint is replaced by "
        "renaming, never in place\n");
    _exit(exit_code_of_loss);
  }
  signal(SIGBUS, SIG_DFL);
  raise(SIGBUS);  // once this handler has returned
}

}  // namespace

void ExitOnLostPages(const std::string& program, int exit_code) {
  const size_t length = std::min(program.size(), program_name.size() - 1);
  std::memcpy(program_name.data(), program.data(), length);
  program_name[length] = '\0';
  exit_code_of_loss = exit_code;
  struct sigaction action {};
  action.sa_sigaction = OnSigbus;
  action.sa_flags = SA_SIGINFO;
  sigemptyset(&action.sa_mask);
  sigaction(SIGBUS, &action, nullptr);
}

void ListMappedFile(const char* data, int64_t size, const char* path) {
  for (Listed& file : listed) {
    if (file.taken.exchange(true, std::memory_order_acquire)) continue;
    file.size.store(size, std::memory_order_relaxed);
    file.path.store(path, std::memory_order_relaxed);
    file.data.store(data, std::memory_order_release);
    return;
  }
}

void UnlistMappedFile(const char* data) {
  for (Listed& file : listed) {
    if (file.data.load(std::memory_order_relaxed) != data) continue;
    file.data.store(nullptr, std::memory_order_relaxed);
    file.taken.store(false, std::memory_order_release);
    return;
  }
}

}  // namespace mea
