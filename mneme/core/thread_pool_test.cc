#include "mneme/core/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
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
