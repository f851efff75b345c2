#include "kernels/cpu/thread_pool.h"

#include <chrono>

#include "kernels/check.h"
#include "kernels/machine.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace mea {
namespace {

// Longer than the serial work between two ops of a step: to wake a sleeping thread is a system
// call, which takes as long as a small op.
constexpr std::chrono::microseconds kSpinTime(100);

void Pause() {
#if defined(__x86_64__)
  _mm_pause();
#endif
}

// Returns when value != old: spins first, then sleeps in the kernel.
void AwaitChange(const std::atomic<uint32_t>& value, uint32_t old) {
  constexpr int kSpinsPerLook = 16;  // a pause takes 10 to 50 ns
  const auto start = std::chrono::steady_clock::now();
  do {
    for (int i = 0; i < kSpinsPerLook; ++i) {
      if (value.load(std::memory_order_acquire) != old) return;
      Pause();
    }
  } while (std::chrono::steady_clock::now() - start < kSpinTime);
  value.wait(old, std::memory_order_acquire);
}

}  // namespace

ThreadPool::ThreadPool(int num_threads) {
  MEA_CHECK(num_threads >= 0);
  if (num_threads == 0) num_threads = UsableCpus();
  for (int thread = 1; thread < num_threads; ++thread) {
    workers_.emplace_back([this, thread] { WorkerMain(thread); });
  }
}

ThreadPool::~ThreadPool() {
  stop_.store(true, std::memory_order_relaxed);
  epoch_.fetch_add(1, std::memory_order_release);
  epoch_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::Run(int64_t num_items, const void* body, Call call) {
  MEA_CHECK(num_items >= 0 && num_items < UINT32_MAX);
  if (num_items <= 1 || workers_.empty()) {
    for (int64_t item = 0; item < num_items; ++item) call(body, item, 0);
    return;
  }
  const uint32_t count = static_cast<uint32_t>(num_items);
  const uint32_t epoch = epoch_.load(std::memory_order_relaxed) + 1;
  call_.store(call, std::memory_order_relaxed);
  body_.store(body, std::memory_order_relaxed);
  num_items_.store(count, std::memory_order_relaxed);
  num_done_.store(0, std::memory_order_relaxed);
  ticket_.store(static_cast<uint64_t>(epoch) << 32 | count, std::memory_order_release);
  // notify_all may look for sleepers only after the store is visible: otherwise it misses a thread
  // that is about to sleep on the old epoch.
  epoch_.store(epoch, std::memory_order_seq_cst);
  epoch_.notify_all();

  Drain(epoch, 0);
  for (uint32_t done; (done = num_done_.load(std::memory_order_acquire)) != count;) {
    AwaitChange(num_done_, done);
  }
}

void ThreadPool::Drain(uint32_t epoch, int thread) {
  uint64_t ticket = ticket_.load(std::memory_order_acquire);
  while (ticket >> 32 == epoch) {
    const uint32_t num_left = static_cast<uint32_t>(ticket);
    if (num_left == 0) return;
    // Success proves that we own an item of this loop. Until it is done nobody may change the
    // loop's description, so now it may be read.
    if (!ticket_.compare_exchange_weak(ticket, ticket - 1, std::memory_order_acq_rel)) continue;
    const uint32_t num_items = num_items_.load(std::memory_order_relaxed);
    const Call call = call_.load(std::memory_order_relaxed);
    call(body_.load(std::memory_order_relaxed), num_items - num_left, thread);
    if (num_done_.fetch_add(1, std::memory_order_release) + 1 == num_items) {
      num_done_.notify_one();
    }
    ticket = ticket_.load(std::memory_order_acquire);
  }
}

void ThreadPool::WorkerMain(int thread) {
  uint32_t seen = 0;
  while (true) {
    AwaitChange(epoch_, seen);
    seen = epoch_.load(std::memory_order_acquire);
    // After the epoch: a worker that has seen the destructor's epoch must not wait for the next.
    if (stop_.load(std::memory_order_relaxed)) return;
    Drain(seen, thread);
  }
}

}  // namespace mea
