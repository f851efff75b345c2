#include "tests/support/wall_clock.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <ctime>

namespace {

std::atomic<int64_t> ahead_of_program_s = 0;
std::atomic<int64_t>* ahead_s = &ahead_of_program_s;

__attribute__((constructor)) void MapAhead() {
  const char* path = std::getenv(mea::testing::kWallClockVariable);
  if (path == nullptr) return;
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  void* data = mmap(nullptr, sizeof(*ahead_s), PROT_READ, MAP_SHARED, fd, 0);
  close(fd);
  if (data != MAP_FAILED) ahead_s = static_cast<std::atomic<int64_t>*>(data);
}

}  // namespace

namespace mea::testing {

void SetWallClockAhead(absl::Duration ahead) { ahead_of_program_s = absl::ToInt64Seconds(ahead); }

}  // namespace mea::testing

// In place of the C library's for every caller, which finds those of the program first.
extern "C" {

__attribute__((visibility("default"))) int clock_gettime(clockid_t clock, timespec* time) noexcept {
  const auto result = static_cast<int>(syscall(SYS_clock_gettime, clock, time));
  if (result == 0 && clock == CLOCK_REALTIME) time->tv_sec += *ahead_s;
  return result;
}

__attribute__((visibility("default"))) int gettimeofday(timeval* time, void*) noexcept {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  *time = {now.tv_sec, now.tv_nsec / 1000};
  return 0;
}

__attribute__((visibility("default"))) time_t time(time_t* into) noexcept {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  if (into != nullptr) *into = now.tv_sec;
  return now.tv_sec;
}
}
