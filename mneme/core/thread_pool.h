// A pool of threads that runs one parallel loop at a time. Every worker has a share of a loop's
// tasks, in order, and helps with the others' shares when its own is done: loops over the same rows
// find them in the caches where the last loop left them, which is worth a third of a product's time
// between cores that share no cache. Tasks are claimed one by one, and a loop waits only for
// workers that have entered it: a worker that the system has put aside holds up at most the task in
// its hands, and one that does not wake in time holds up nothing. Two processes on two cores slow
// each other, they do not stall.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "mneme/core/function_ref.h"

namespace mneme {

class ThreadPool {
 public:
  // `threads` >= 1 counts the caller; 0 takes one per core this process may use.
  explicit ThreadPool(int threads = 0);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls body(task, worker) once for every task in [0, tasks), worker in [0, size()), and returns
  // when all are done. The caller works too, as worker 0; worker w begins at about task
  // w * tasks / size(). The first exception thrown by a task is rethrown here. Not reentrant: a task
  // must not call run() on the same pool. Allocates nothing.
  void run(int64_t tasks, FunctionRef<void(int64_t task, int worker)> body);
  // The same, with every task claimed before those after it, whoever is free: for tasks that wait for
  // what earlier ones do.
  void run_in_order(int64_t tasks, FunctionRef<void(int64_t task, int worker)> body);

 private:
  // What is left of a worker's tasks.
  struct alignas(64) Share {
    std::atomic<int64_t> next{0};
    int64_t end = 0;
  };

  // The shares have been cut.
  void run_shares(FunctionRef<void(int64_t task, int worker)> body);
  void set_share(int worker, int64_t begin, int64_t end);
  void work(int worker);
  void claim_tasks(int worker);
  bool enter();
  void leave();

  std::vector<std::thread> workers_;
  const FunctionRef<void(int64_t, int)>* body_ = nullptr;
  std::unique_ptr<Share[]> shares_;                  // [size()]
  alignas(64) std::atomic<uint32_t> generation_{0};  // one more for every loop
  alignas(64) std::atomic<uint32_t> gate_{0};        // kOpen, and the number of workers inside
  std::atomic<bool> stopping_{false};
  std::mutex error_mutex_;
  std::exception_ptr error_;
};

}  // namespace mneme
