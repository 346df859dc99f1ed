#include "mneme/core/thread_pool.h"

#include <sched.h>

#include "mneme/core/error.h"

namespace mneme {
namespace {

// Between two loops of one step a worker waits microseconds, so it spins that long; then it sleeps
// in the kernel.
constexpr int kSpins = 2000;

constexpr uint32_t kOpen = uint32_t{1} << 31;

inline void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

int usable_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
  return 1;
}

// Waits until `value` differs from `old`: spins, then sleeps.
template <typename T>
void wait_for_change(const std::atomic<T>& value, T old) {
  for (int spin = 0; spin < kSpins; ++spin) {
    if (value.load(std::memory_order_acquire) != old) return;
    relax();
  }
  value.wait(old, std::memory_order_acquire);
}

}  // namespace

ThreadPool::ThreadPool(int threads) {
  MNEME_CHECK(threads >= 0 && threads <= 1024, "threads: expected 0 (all cores) to 1024, got ",
              threads);
  if (threads == 0) threads = usable_cores();
  shares_ = std::make_unique<Share[]>(static_cast<size_t>(threads));
  for (int worker = 1; worker < threads; ++worker) {
    workers_.emplace_back([this, worker] { work(worker); });
  }
}

ThreadPool::~ThreadPool() {
  stopping_.store(true, std::memory_order_release);
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::run(int64_t tasks, FunctionRef<void(int64_t, int)> body) {
  if (tasks <= 0) return;
  if (tasks == 1 || workers_.empty()) {
    for (int64_t task = 0; task < tasks; ++task) body(task, 0);
    return;
  }
  int64_t begin = 0;
  for (int worker = 0; worker < size(); ++worker) {
    const int64_t end = begin + (tasks - begin) / (size() - worker);
    set_share(worker, begin, end);
    begin = end;
  }
  run_shares(body);
}

void ThreadPool::run_in_order(int64_t tasks, FunctionRef<void(int64_t, int)> body) {
  if (tasks <= 1 || workers_.empty()) return run(tasks, body);
  // One share for all.
  for (int worker = 0; worker < size(); ++worker) set_share(worker, 0, worker == 0 ? tasks : 0);
  run_shares(body);
}

void ThreadPool::set_share(int worker, int64_t begin, int64_t end) {
  Share& share = shares_[static_cast<size_t>(worker)];
  share.end = end;
  share.next.store(begin, std::memory_order_relaxed);
}

void ThreadPool::run_shares(FunctionRef<void(int64_t, int)> body) {
  body_ = &body;
  error_ = nullptr;
  gate_.store(kOpen, std::memory_order_release);
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  claim_tasks(0);
  // Nobody enters any more: every task has been claimed.
  uint32_t inside = gate_.fetch_and(~kOpen, std::memory_order_acq_rel) & ~kOpen;
  while (inside != 0) {
    wait_for_change(gate_, inside);
    inside = gate_.load(std::memory_order_acquire);
  }
  if (error_) std::rethrow_exception(error_);
}

void ThreadPool::claim_tasks(int worker) {
  for (int other = 0; other < size(); ++other) {
    Share& share = shares_[static_cast<size_t>((worker + other) % size())];
    for (;;) {
      const int64_t task = share.next.fetch_add(1, std::memory_order_relaxed);
      if (task >= share.end) break;
      try {
        (*body_)(task, worker);
      } catch (...) {
        const std::lock_guard lock(error_mutex_);
        if (!error_) error_ = std::current_exception();
        for (int each = 0; each < size(); ++each) {
          Share& rest = shares_[static_cast<size_t>(each)];
          rest.next.store(rest.end, std::memory_order_relaxed);
        }
      }
    }
  }
}

// Whether a loop is open; it then stays until leave().
bool ThreadPool::enter() {
  uint32_t gate = gate_.load(std::memory_order_acquire);
  do {
    if ((gate & kOpen) == 0) return false;
  } while (!gate_.compare_exchange_weak(gate, gate + 1, std::memory_order_acquire));
  return true;
}

void ThreadPool::leave() {
  // The caller waits only once the gate is closed, and for the last one inside.
  if (gate_.fetch_sub(1, std::memory_order_acq_rel) == 1) gate_.notify_one();
}

void ThreadPool::work(int worker) {
  uint32_t seen = 0;
  for (;;) {
    wait_for_change(generation_, seen);
    seen = generation_.load(std::memory_order_acquire);
    if (stopping_.load(std::memory_order_acquire)) return;
    if (!enter()) continue;
    claim_tasks(worker);
    leave();
  }
}

}  // namespace mneme
