#include "mneme/core/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "mneme/core/error.h"

namespace mneme {
namespace {

TEST(ThreadPool, RunsEveryTaskOnce) {
  ThreadPool pool(3);
  for (const int64_t tasks : {0, 1, 2, 3, 7, 1000}) {
    std::vector<std::atomic<int>> calls(static_cast<size_t>(tasks));
    pool.run(tasks, [&](int64_t task, int worker) {
      ASSERT_GE(worker, 0);
      ASSERT_LT(worker, pool.size());
      ++calls[static_cast<size_t>(task)];
    });
    for (const auto& count : calls) EXPECT_EQ(count.load(), 1);
  }
}

TEST(ThreadPool, SurvivesManyShortLoops) {
  ThreadPool pool(4);
  std::atomic<int64_t> sum{0};
  for (int loop = 0; loop < 20000; ++loop) pool.run(5, [&](int64_t task, int) { sum += task; });
  EXPECT_EQ(sum.load(), 20000 * 10);
}

// Far more threads than cores: most wake when their loop is over, or in the middle of the next.
TEST(ThreadPool, LateWorkersEnterNoLoopThatIsOver) {
  ThreadPool pool(24);
  for (int loop = 0; loop < 3000; ++loop) {
    // The body dies with the loop: a late worker that called it would write to a dead counter.
    auto calls = std::make_unique<std::atomic<int>>(0);
    pool.run(2 + loop % 7, [&calls](int64_t, int) { ++*calls; });
    ASSERT_EQ(calls->load(), 2 + loop % 7);
    calls.reset();
  }
}

// The task that begins worker 0's share waits for all the others, those of its share among them.
TEST(ThreadPool, OthersDoTheShareOfOneThatIsHeldUp) {
  ThreadPool pool(2);
  constexpr int64_t kTasks = 50;
  std::atomic<int64_t> done{0};
  pool.run(kTasks, [&](int64_t task, int) {
    while (task == 0 && done < kTasks - 1) std::this_thread::yield();
    ++done;
  });
  EXPECT_EQ(done.load(), kTasks);
}

// When a task begins, no earlier one is unclaimed: all but those in the other workers' hands have begun.
TEST(ThreadPool, TasksInOrderAreClaimedInOrder) {
  ThreadPool pool(4);
  for (int loop = 0; loop < 200; ++loop) {
    constexpr int64_t kTasks = 64;
    std::atomic<int64_t> begun{0}, sum{0};
    std::atomic<bool> ordered{true};
    pool.run_in_order(kTasks, [&](int64_t task, int) {
      if (begun.fetch_add(1) < task - (pool.size() - 1)) ordered = false;
      sum += task;
      std::this_thread::yield();
    });
    EXPECT_TRUE(ordered.load());
    EXPECT_EQ(sum.load(), kTasks * (kTasks - 1) / 2);
  }
}

TEST(ThreadPool, RethrowsTheFirstErrorAndWorksAgain) {
  ThreadPool pool(2);
  EXPECT_THROW(pool.run(100,
                        [](int64_t task, int) {
                          if (task == 17) fail("task ", task);
                        }),
               Error);
  std::atomic<int> count{0};
  pool.run(10, [&](int64_t, int) { ++count; });
  EXPECT_EQ(count.load(), 10);
}

TEST(ThreadPool, RefusesSillySizes) {
  EXPECT_THROW(ThreadPool(-1), Error);
  EXPECT_THROW(ThreadPool(100000), Error);
}

}  // namespace
}  // namespace mneme
