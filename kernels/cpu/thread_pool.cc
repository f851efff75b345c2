#include "kernels/cpu/thread_pool.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <chrono>

#include "kernels/check.h"

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

// notify_all may look for sleepers only after the store is visible: otherwise it misses a thread
// that is about to sleep on the old epoch.
void Announce(std::atomic<uint32_t>& epoch, uint32_t value) {
  epoch.store(value, std::memory_order_seq_cst);
  epoch.notify_all();
}

}  // namespace

ThreadPool::ThreadPool(int num_threads)
    : ThreadPool(AnyThreads(num_threads == 0 ? DefaultThreads() : num_threads)) {}

ThreadPool::ThreadPool(ThreadPlan plan)
    : plan_(std::move(plan)),
      num_clusters_(plan_.num_clusters()),
      clusters_(std::make_unique<Cluster[]>(num_clusters_ + 1)) {
  MEA_CHECK(num_threads() > 0);
  for (int thread = num_threads() - 1; thread >= 0; --thread) {
    clusters_[plan_.threads[thread].cluster].first_thread = thread;
  }
  clusters_[num_clusters_].first_thread = num_threads();
  for (int thread = 1; thread < num_threads(); ++thread) {
    workers_.emplace_back([this, thread] { WorkerMain(thread); });
  }
}

ThreadPool::~ThreadPool() {
  stop_.store(true, std::memory_order_relaxed);
  AnnounceLoop(++num_loops_);
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::Run(int64_t num_items, const void* body, Call call) {
  MEA_CHECK(num_items >= 0 && num_items < UINT32_MAX);
  if (!is_placed_) Place(0);
  is_placed_ = true;
  if (num_items <= 1 || workers_.empty()) {
    for (int64_t item = 0; item < num_items; ++item) call(body, item, 0);
    return;
  }
  const uint32_t epoch = ++num_loops_;
  call_.store(call, std::memory_order_relaxed);
  body_.store(body, std::memory_order_relaxed);
  num_items_.store(static_cast<uint32_t>(num_items), std::memory_order_relaxed);
  for (int cluster = 0; cluster < num_clusters_; ++cluster) {
    const int64_t count = FirstItem(cluster + 1, num_items) - FirstItem(cluster, num_items);
    clusters_[cluster].num_done.store(0, std::memory_order_relaxed);
    clusters_[cluster].ticket.store(uint64_t{epoch} << 32 | static_cast<uint64_t>(count),
                                    std::memory_order_release);
  }
  AnnounceLoop(epoch);
  Drain(epoch, 0);
  for (int cluster = 0; cluster < num_clusters_; ++cluster) {
    const int64_t count = FirstItem(cluster + 1, num_items) - FirstItem(cluster, num_items);
    const std::atomic<uint32_t>& num_done = clusters_[cluster].num_done;
    for (uint32_t done; (done = num_done.load(std::memory_order_acquire)) != count;) {
      AwaitChange(num_done, done);
    }
  }
}

void ThreadPool::AnnounceLoop(uint32_t epoch) {
  if (num_clusters_ > 1) Announce(epoch_, epoch);  // the first threads of clusters pass it on
  Announce(clusters_[0].epoch, epoch);
}

void ThreadPool::Drain(uint32_t epoch, int thread) {
  const int own = plan_.threads[thread].cluster;
  for (int i = 0; i < num_clusters_; ++i) {
    const int cluster = own + i < num_clusters_ ? own + i : own + i - num_clusters_;
    DrainCluster(epoch, thread, cluster);
  }
}

void ThreadPool::DrainCluster(uint32_t epoch, int thread, int cluster) {
  Cluster& items = clusters_[cluster];
  int64_t first = 0;
  int64_t end = 0;
  uint32_t num_taken = 0;
  uint64_t ticket = items.ticket.load(std::memory_order_acquire);
  while (ticket >> 32 == epoch) {
    const uint32_t num_left = static_cast<uint32_t>(ticket);
    if (num_left == 0) break;
    // Success proves that we own an item of this loop. Until it is counted as done nobody may
    // change the loop's description, so now it may be read.
    if (!items.ticket.compare_exchange_weak(ticket, ticket - 1, std::memory_order_acq_rel)) {
      continue;
    }
    if (num_taken++ == 0) {
      const int64_t num_items = num_items_.load(std::memory_order_relaxed);
      first = FirstItem(cluster, num_items);
      end = FirstItem(cluster + 1, num_items);
    }
    const Call call = call_.load(std::memory_order_relaxed);
    call(body_.load(std::memory_order_relaxed), end - num_left, thread);
    ticket = items.ticket.load(std::memory_order_acquire);
  }
  if (num_taken == 0) return;
  const uint32_t num_done =
      items.num_done.fetch_add(num_taken, std::memory_order_release) + num_taken;
  if (num_done == end - first) items.num_done.notify_one();
}

void ThreadPool::WorkerMain(int thread) {
  Place(thread);
  const int cluster = plan_.threads[thread].cluster;
  std::atomic<uint32_t>& own_epoch = clusters_[cluster].epoch;
  const bool wakes_others = clusters_[cluster].first_thread == thread;
  const std::atomic<uint32_t>& epoch = wakes_others ? epoch_ : own_epoch;
  uint32_t seen = 0;
  while (true) {
    AwaitChange(epoch, seen);
    seen = epoch.load(std::memory_order_acquire);
    // After the epoch: a worker that has seen the destructor's epoch must not wait for the next.
    // Before it is passed on: whoever stops here passes nothing on any more, so those it wakes must
    // see the end as well, even if `seen` is still a loop's epoch.
    const bool is_end = stop_.load(std::memory_order_relaxed);
    if (wakes_others) Announce(own_epoch, seen);
    if (is_end) return;
    Drain(seen, thread);
  }
}

void ThreadPool::Place(int thread) const {
  const std::vector<int>& cpus = plan_.threads[thread].cpus;
  if (cpus.empty()) return;
  const int count = *std::max_element(cpus.begin(), cpus.end()) + 1;
  cpu_set_t* const set = CPU_ALLOC(count);
  if (set == nullptr) return;
  const size_t bytes = CPU_ALLOC_SIZE(count);
  CPU_ZERO_S(bytes, set);
  for (const int cpu : cpus) CPU_SET_S(cpu, bytes, set);
  pthread_setaffinity_np(pthread_self(), bytes, set);  // where it is refused, it runs anywhere
  CPU_FREE(set);
}

}  // namespace mea
