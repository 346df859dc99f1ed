// The CUDA decode kernels run thread by thread on the CPU against float64 attention over the same
// pages.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "mneme/kernels/attention_testing.h"
#include "mneme/kernels/cuda/emulated_launch_testing.h"
#include "mneme/kernels/cuda/paged_launch.cuh"

namespace mneme::cuda {
namespace {

using testing::naive_attention;
using testing::PagedRows;

// The tables of a device, here in plain memory.
struct Tables {
  std::vector<PageView> pages;
  std::vector<int32_t> begin = {0};
  int64_t longest = 0;

  explicit Tables(std::span<const std::span<const PageView>> heads) {
    for (const auto& head : heads) {
      pages.insert(pages.end(), head.begin(), head.end());
      begin.push_back(static_cast<int32_t>(pages.size()));
      longest = std::max(longest, static_cast<int64_t>(head.size()));
    }
  }
  DevicePages view() const { return {pages.data(), begin.data(), longest}; }
};

template <typename Real>
double worst(const std::vector<Real>& got, const std::vector<double>& want) {
  double most = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    const double error = std::abs(static_cast<double>(got[i]) - want[i]);
    if (!(error <= most)) most = error;
  }
  return most;
}

void expect_equal(const PagedAttention& config, int64_t queries, int64_t first_position,
                  const std::vector<std::span<const PageView>>& heads) {
  Rng rng(5);
  const std::vector<float> q =
      testing::normals(rng, queries * config.q_heads * config.format.k_dim);
  const auto outputs = static_cast<size_t>(queries * config.q_heads * config.format.v_dim);
  std::vector<float> out(outputs, NAN);
  const Tables tables(heads);
  std::vector<float> workspace(
      static_cast<size_t>(paged_workspace_bytes(config, queries, tables.longest) / 4), NAN);
  run_paged(config, queries, first_position, q.data(), tables.view(), out.data(), workspace.data(),
            testing::EmulatedLaunch());
  const auto want = naive_attention<double>(config, queries, first_position, q.data(), heads);
  const auto plain = naive_attention<float>(config, queries, first_position, q.data(), heads);
  EXPECT_LE(worst(out, want), 2 * worst(plain, want) + 1e-6)
      << row_encoding_name(config.format.encoding) << " " << config.q_heads << "/"
      << config.kv_heads << " dims " << config.format.k_dim << "/" << config.format.v_dim
      << " queries " << queries << " window " << config.window.window << " softcap "
      << config.softcap;
}

std::vector<RowFormat> formats(int64_t k_dim, int64_t v_dim) {
  std::vector<RowFormat> all = {{RowEncoding::kF32, k_dim, v_dim},
                                {RowEncoding::kF16, k_dim, v_dim},
                                {RowEncoding::kBF16, k_dim, v_dim}};
  for (const int64_t group : {8, 32}) {
    if (k_dim % group != 0 || v_dim % group != 0) continue;
    all.push_back({RowEncoding::kQ8, k_dim, v_dim, group, group == 8});
    all.push_back({RowEncoding::kQ4, k_dim, v_dim, group, group == 8});
  }
  return all;
}

class EmulatedPages : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!testing::kCanEmulate) GTEST_SKIP() << "no emulation under sanitizers";
  }
};

TEST_F(EmulatedPages, EveryEncodingAndShapeEqualsFloat64) {
  struct Shape {
    int64_t q_heads, kv_heads, k_dim, v_dim, rows, queries;
  };
  for (const Shape& s : {Shape{3, 1, 64, 64, 700, 1},
                         {1, 1, 1, 1, 63, 1},
                         {4, 2, 16, 40, 64, 2},
                         {2, 2, 63, 63, 130, 3},
                         {8, 1, 96, 96, 65, 1},
                         {3, 1, 128, 128, 90, 7},
                         {1, 1, 256, 256, 70, 1},
                         {5, 1, 8, 8, 600, 4}}) {
    for (const RowFormat& format : formats(s.k_dim, s.v_dim)) {
      Rng rng(3);
      PagedRows rows(format, s.kv_heads);
      rows.fill(s.rows, rng);
      const PagedAttention config{format, s.q_heads, s.kv_heads,
                                  1 / std::sqrt(static_cast<float>(s.k_dim))};
      expect_equal(config, s.queries, s.rows - s.queries, rows.views());
    }
  }
}

TEST_F(EmulatedPages, WindowsSinksCapsAndRaggedHeads) {
  for (const RowFormat& format : formats(32, 32)) {
    Rng rng(4);
    PagedRows rows(format, 2);
    rows.fill(600, rng);
    rows.drop_page(1, 2);
    rows.drop_page(1, 2);
    for (const auto& [window, sink] :
         std::vector<std::pair<int64_t, int64_t>>{{0, 0}, {1, 0}, {100, 4}, {70, 200}}) {
      for (const float softcap : {0.0f, 2.0f}) {
        PagedAttention config{format, 6, 2, 0.2f, softcap, {window, sink}};
        expect_equal(config, 2, 598, rows.views());
        expect_equal(config, 2, 300, rows.views(true));
      }
    }
    // Queries before every row see nothing.
    PagedRows late(format, 1);
    const std::vector<float> x = testing::normals(rng, 32);
    late.append(0, 50, x.data(), x.data());
    expect_equal({format, 2, 1, 0.2f}, 3, 48, late.views());
  }
}

TEST(EmulatedPagesChecks, RejectBadInput) {
  const auto message = [](const PagedAttention& config, int64_t queries) -> std::string {
    try {
      check_paged(config, queries, 0, 1);
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  };
  using ::testing::HasSubstr;
  PagedAttention config{{RowEncoding::kF16, 64, 64}, 4, 2, 1};
  EXPECT_EQ(message(config, 1), "no error");
  EXPECT_THAT(message(config, -1), HasSubstr("got -1, 0 and 1"));
  config.format.v_dim = 300;
  EXPECT_THAT(message(config, 1), HasSubstr("at most 256, got 64 and 300"));
  config.format.v_dim = 64;
  config.kv_heads = 3;
  EXPECT_THAT(message(config, 1), HasSubstr("got 4 and 3"));
}

}  // namespace
}  // namespace mneme::cuda
